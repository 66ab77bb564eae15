"""Which answer a request gets: a pure function of the request, so retries and resumes agree.

The script is in the newest user text with a marker (`testing/scenario.py` has its vocabulary),
else named by the model id `mock-NAME`, else the default. The step is the number of tool calls
since that text. A prompt may also name a task file instead of carrying the script: then the
first call reads that file, and its text carries the marker.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Final, assert_never

import msgspec

from agentcom.model import errors
from agentcom.testing import scenario
from agentcom.testing.mock_llm import blocks, tools
from agentcom.testing.mock_llm.conversation import (
    Answer,
    Call,
    Called,
    Fault,
    Item,
    Reply,
    Request,
    Returned,
    Said,
    Silence,
    Tool,
    babble,
    garbage,
)

SIDE_ANSWER: Final = "Mock title"
"""The answer to a request without tools: a title, a summary, a probe."""

_TASK_FILE: Final = re.compile(r"task file(?: at)? `([^`]+)`")
_STILL_RUNNING: Final = re.compile(r"Process running with session ID (\d+)")
_UNCOUNTED: Final = frozenset({"write_stdin", tools.SEARCH})
"""Calls on the way to a step, not the step itself."""
_SUBMIT: Final = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""Some programs go on until their model has printed this."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, and where in which script it stands."""

    answer: Answer
    scenario: str
    step: int | None
    """None: a side request."""


class _Script(msgspec.Struct, frozen=True):
    text: str
    done: int


class _Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer of the model covers: words, then at most one tool call or fault."""

    text: str = ""
    delay_ms: int = 0
    act: scenario.Write | scenario.Use | str | Fault | Silence | None = None


def choose(request: Request) -> Choice:
    """Return the answer to `request`."""
    script = _script(request)
    if isinstance(script, Reply):
        return Choice(answer=script, scenario="task-file", step=0)
    name = scenario.scenario_name(script.text) or scenario.DEFAULT_SCENARIO
    try:
        steps = scenario.steps(script.text)
    except errors.InvalidInput as error:
        return Choice(answer=Reply(text=f"mock: {error.message}"), scenario=name, step=script.done)
    if blocks.wanted(request):
        return Choice(answer=blocks.answer(steps), scenario=name, step=0)
    turns = list(_turns(steps))
    turn = turns[min(script.done, len(turns) - 1)]
    if not request.tools:
        side = turn.act if isinstance(turn.act, Fault | Silence) else Reply(text=SIDE_ANSWER)
        return Choice(answer=side, scenario=name, step=None)
    answer = _waiting(request) or _answer(turn, request)
    return Choice(answer=answer, scenario=name, step=script.done)


def _script(request: Request) -> _Script | Reply:
    """Return the script and how many of its calls are done, or the call that fetches it."""
    items = request.items
    for at in range(len(items) - 1, -1, -1):
        item = items[at]
        if not isinstance(item, Said):
            continue
        if scenario.scenario_name(item.text) is not None:
            return _Script(item.text, _calls(items[at:]))
        pointer = _TASK_FILE.search(item.text)
        if pointer is not None and request.tools:
            return _from_file(request.tools, items[at:], pointer.group(1))
    named = request.model.removeprefix("mock-")
    text = f"<<mock:{named}>>" if named != request.model else ""
    return _Script(text, _calls(items))


def _from_file(offered: Sequence[Tool], items: Sequence[Item], path: str) -> _Script | Reply:
    for at, item in enumerate(items):
        if isinstance(item, Returned) and scenario.scenario_name(item.text) is not None:
            return _Script(item.text, _calls(items[at:]))
    if _calls(items):
        return _Script("", _calls(items) - 1)
    call = tools.shell(offered, f"cat -- {shlex.quote(path)}")
    return Reply(text="I read the task file.", call=call)


def _calls(items: Sequence[Item]) -> int:
    return sum(1 for item in items if isinstance(item, Called) and item.name not in _UNCOUNTED)


def _waiting(request: Request) -> Reply | None:
    """A command that outlives its call is waited for, as a real model would."""
    last = request.items[-1] if request.items else None
    running = _STILL_RUNNING.search(last.text) if isinstance(last, Returned) else None
    call = tools.wait(request.tools, int(running.group(1))) if running else None
    return None if call is None else Reply(call=call)


def _submission(request: Request) -> Call | None:
    asked = any(isinstance(item, Said) and _SUBMIT in item.text for item in request.items)
    return tools.shell(request.tools, f"echo {_SUBMIT}") if asked else None


def _searched(request: Request) -> bool:
    """Whether the model's last call looked for a tool that was not offered."""
    called = [item.name for item in request.items if isinstance(item, Called)]
    return bool(called) and called[-1] == tools.SEARCH


def _turns(steps: Sequence[scenario.Step]) -> Iterator[_Turn]:
    words: list[str] = []
    delay_ms = 0
    for step in steps:
        match step:
            case scenario.Say(text):
                words.append(text)
            case scenario.Sleep(duration_ms):
                delay_ms += duration_ms
            case scenario.Loop(count):
                yield from [_Turn(act="true")] * count
            case scenario.ExitWith(code):
                words.append(f"mock: a model cannot exit with {code}")
            case scenario.Garbage(size_bytes):
                words.append(garbage(size_bytes))
            case scenario.Huge(size_bytes):
                words.append(babble(size_bytes))
            case _:
                yield _Turn(text="\n".join(words), delay_ms=delay_ms, act=_act(step))
                words, delay_ms = [], 0
    yield _Turn(text="\n".join(words) or "Done.", delay_ms=delay_ms)


def _act(
    step: scenario.Write
    | scenario.Use
    | scenario.Shell
    | scenario.WaitFor
    | scenario.Commit
    | scenario.Fail
    | scenario.Hang
    | scenario.SpawnOrphan,
) -> scenario.Write | scenario.Use | str | Fault | Silence:
    match step:
        case scenario.Write() | scenario.Use():
            return step
        case scenario.Shell(argv):
            return tools.join(argv)
        case scenario.WaitFor(path):
            return f"until [ -e {shlex.quote(path)} ]; do sleep 0.1; done"
        case scenario.Commit(message):
            return f"git add --all && git commit -q -m {shlex.quote(message)}"
        case scenario.Fail(kind, says):
            return Fault(kind=kind, says=says)
        case scenario.Hang():
            return Silence()
        case scenario.SpawnOrphan():
            return "( setsid sleep 600 >/dev/null 2>&1 </dev/null & )"
        case _:
            assert_never(step)


def _answer(turn: _Turn, request: Request) -> Answer:
    offered = request.tools
    match turn.act:
        case None:
            call = _submission(request)
            return Reply(text=turn.text, call=call, delay_ms=turn.delay_ms)
        case Fault(kind="refused") if request.dialect != "responses":
            return Reply(text="I cannot help with that.", delay_ms=turn.delay_ms, refusal=True)
        case Fault(kind=kind, says=says):
            return Fault(kind=kind, delay_ms=turn.delay_ms, says=says)
        case Silence():
            return Silence(delay_ms=turn.delay_ms)
        case scenario.Write():
            call = tools.write(offered, turn.act)
        case scenario.Use():
            call = tools.of_server(offered, turn.act, searched=_searched(request))
        case str():
            call = tools.shell(offered, turn.act)
        case _:
            assert_never(turn.act)
    if call is None:
        return Reply(text=_no_tool(offered), delay_ms=turn.delay_ms)
    return Reply(text=turn.text, call=call, delay_ms=turn.delay_ms)


def _no_tool(offered: Sequence[Tool]) -> str:
    return f"mock: no tool fits the step; offered: {', '.join(tool.name for tool in offered)}"
