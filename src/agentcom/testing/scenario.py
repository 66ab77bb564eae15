r"""The script that stands in for a model: scenarios, their steps, and how a prompt carries them.

A prompt names a scenario by a marker, ``<<mock:NAME>>``; the newest marker wins. A fenced block
after it may hold the steps themselves, one JSON object a line::

    <<mock:edit>>
    ```steps
    {"say": "I add the file"}
    {"write": {"path": "hello.txt", "text": "hello\n"}}
    ```

The test agent performs steps itself; the model server turns them into tool calls of real agents.
"""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Final, Literal, assert_never

import msgspec

from agentcom.model import errors

DEFAULT_SCENARIO: Final = "edit"
STEPS_MAX: Final = 1_000
"""Steps of one scenario; more is a mistake in the prompt."""

_MARKER: Final = re.compile(r"<<mock:([a-z0-9][a-z0-9_-]{0,62})>>")
_FENCE: Final = re.compile(r"^```(?:steps|jsonl?)[ \t]*\n(.*?)^```", re.DOTALL | re.MULTILINE)

FailureKind = Literal[
    "auth", "quota", "rate_limit", "model_unavailable", "refused", "context_full", "agent"
]


class Write(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Write a text file; `path` is relative to the worktree and stays inside it."""

    path: str
    text: str


class Shell(msgspec.Struct, frozen=True):
    """Run a command in the worktree, and wait for it."""

    argv: tuple[str, ...]


class Use(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Use a tool of the hub's MCP door: one of its calls."""

    tool: str
    arguments: dict[str, Any] = {}


class Say(msgspec.Struct, frozen=True):
    """Say something; the last saying is the summary."""

    text: str


class Sleep(msgspec.Struct, frozen=True):
    """Let time pass, as thinking does."""

    duration_ms: int


class WaitFor(msgspec.Struct, frozen=True):
    """Wait until a path (absolute, or relative to the worktree) exists."""

    path: str


class Commit(msgspec.Struct, frozen=True):
    """Commit everything in the worktree."""

    message: str


class ExitWith(msgspec.Struct, frozen=True):
    """Exit at once with this code, without a final record."""

    code: int


class Fail(msgspec.Struct, frozen=True):
    """Report an error of this class and end; `says` are the words, if not the usual ones."""

    kind: FailureKind
    says: str = ""


class Hang(msgspec.Struct, frozen=True):
    """Do nothing, silently, until killed."""


class Loop(msgspec.Struct, frozen=True):
    """Make the same tool call `count` times."""

    count: int


class SpawnOrphan(msgspec.Struct, frozen=True):
    """Leave a double-forked child in a session of its own behind."""


class Garbage(msgspec.Struct, frozen=True):
    """Print this many bytes that are no valid line of the stream."""

    size_bytes: int


class Huge(msgspec.Struct, frozen=True):
    """Print this many bytes of text without a line break."""

    size_bytes: int


Step = (
    Write
    | Shell
    | Use
    | Say
    | Sleep
    | WaitFor
    | Commit
    | ExitWith
    | Fail
    | Hang
    | Loop
    | SpawnOrphan
    | Garbage
    | Huge
)


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step as it is written; exactly one key is present."""

    write: Write | None = None
    shell: tuple[str, ...] | None = None
    use: Use | None = None
    say: str | None = None
    sleep_ms: int | None = None
    wait_for: str | None = None
    commit: str | None = None
    exit: int | None = None
    error: FailureKind | None = None
    limit: str | None = None
    """What a provider says whose quota is used up."""
    hang: Literal[True] | None = None
    loop: int | None = None
    spawn_orphan: Literal[True] | None = None
    garbage: int | None = None
    huge: int | None = None


NAMED: Final[Mapping[str, tuple[Step, ...]]] = MappingProxyType(
    {
        "edit": (
            Say("I write hello.txt."),
            Write("hello.txt", "hello\n"),
            Say("Done: hello.txt written."),
        ),
        "fix": (
            Say("I fix hello.txt."),
            Write("hello.txt", "hello, fixed\n"),
            Commit("Fix hello.txt"),
            Say("Done: hello.txt fixed."),
        ),
        "commit": (
            Write("hello.txt", "hello\n"),
            Commit("Add hello.txt"),
            Say("Done: hello.txt committed."),
        ),
        "say": (Say("Nothing to change."),),
        "shell": (Shell(("git", "status", "--short")), Say("Done.")),
        "slow": (Shell(("sleep", "120")), Say("Done.")),
        "auth": (Fail("auth"),),
        "quota": (Fail("quota"),),
        "quota-reset": (Fail("quota", "You've hit your usage limit. Try again in 2h 5m."),),
        "rate-limit": (Fail("rate_limit"),),
        "model-down": (Fail("model_unavailable"),),
        "refuse": (Fail("refused"),),
        "context-full": (Fail("context_full"),),
        "fails": (Fail("agent"),),
        "crash": (ExitWith(3),),
        "hang": (Hang(),),
        "loop": (Loop(30), Say("Done.")),
        "orphan": (SpawnOrphan(), Hang()),
        "garbage": (Garbage(4_096), Say("Done.")),
        "huge": (Huge(4 << 20), Say("Done.")),
    }
)
"""What a scenario does when its prompt brings no steps of its own."""


def scenario_name(text: str) -> str | None:
    """Return the name in the newest marker of `text`, or None if there is no marker."""
    names = _MARKER.findall(text)
    return names[-1] if names else None


def parse_steps(text: str) -> list[Step]:
    """Return the steps in the first fenced block after the newest marker; [] if there are none.

    Raises:
        InvalidInput: a line of the block is not a step.
    """
    markers = list(_MARKER.finditer(text))
    block = _FENCE.search(text, markers[-1].end() if markers else 0)
    if block is None:
        return []
    lines = [line for line in block.group(1).splitlines() if line.strip()]
    if len(lines) > STEPS_MAX:
        raise errors.InvalidInput("steps", f"at most {STEPS_MAX}")
    return [_parse_line(number, line) for number, line in enumerate(lines, start=1)]


def steps(text: str) -> list[Step]:
    """Return what a prompt asks for: its own steps, else those of the scenario it names.

    Raises:
        InvalidInput: a step is malformed, or the scenario is unknown.
    """
    own = parse_steps(text)
    if own:
        return own
    name = scenario_name(text) or DEFAULT_SCENARIO
    if name not in NAMED:
        raise errors.InvalidInput("scenario", f"{name} is none of {', '.join(NAMED)}")
    return list(NAMED[name])


def render(wanted: list[Step], *, scenario: str = DEFAULT_SCENARIO) -> str:
    """Return the prompt text (marker and fenced block) that `parse_steps` reads back."""
    lines = (msgspec.json.encode(_written(step)).decode() for step in wanted)
    return "\n".join([f"<<mock:{scenario}>>", "```steps", *lines, "```", ""])


def _parse_line(number: int, line: str) -> Step:
    try:
        written = msgspec.json.decode(line.encode(), type=_Line)
    except msgspec.DecodeError as error:
        raise errors.InvalidInput(f"step {number}", str(error)) from error
    found = _step(written)
    if len(found) != 1:
        raise errors.InvalidInput(f"step {number}", "one key, the kind of the step")
    if isinstance(found[0], Write):
        _check_path(number, found[0].path)
    return found[0]


def _step(line: _Line) -> list[Step]:
    candidates: list[Step | None] = [
        line.write,
        None if line.shell is None else Shell(line.shell),
        line.use,
        None if line.say is None else Say(line.say),
        None if line.sleep_ms is None else Sleep(line.sleep_ms),
        None if line.wait_for is None else WaitFor(line.wait_for),
        None if line.commit is None else Commit(line.commit),
        None if line.exit is None else ExitWith(line.exit),
        None if line.error is None else Fail(line.error),
        None if line.limit is None else Fail("quota", line.limit),
        None if line.hang is None else Hang(),
        None if line.loop is None else Loop(line.loop),
        None if line.spawn_orphan is None else SpawnOrphan(),
        None if line.garbage is None else Garbage(line.garbage),
        None if line.huge is None else Huge(line.huge),
    ]
    return [step for step in candidates if step is not None]


def _written(step: Step) -> dict[str, object]:
    match step:
        case Write():
            written: dict[str, object] = {"write": step}
        case Shell(argv):
            written = {"shell": argv}
        case Use():
            written = {"use": step}
        case Say(text):
            written = {"say": text}
        case Sleep(duration_ms):
            written = {"sleep_ms": duration_ms}
        case WaitFor(path):
            written = {"wait_for": path}
        case Commit(message):
            written = {"commit": message}
        case _:
            written = _written_fault(step)
    return written


def _written_fault(
    step: ExitWith | Fail | Hang | Loop | SpawnOrphan | Garbage | Huge,
) -> dict[str, object]:
    match step:
        case ExitWith(code):
            written: dict[str, object] = {"exit": code}
        case Fail(kind, says):
            written = {"limit": says} if says else {"error": kind}
        case Hang():
            written = {"hang": True}
        case Loop(count):
            written = {"loop": count}
        case SpawnOrphan():
            written = {"spawn_orphan": True}
        case Garbage(size_bytes):
            written = {"garbage": size_bytes}
        case Huge(size_bytes):
            written = {"huge": size_bytes}
        case _:
            assert_never(step)
    return written


def _check_path(number: int, path: str) -> None:
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or ".git" in pure.parts:
        raise errors.InvalidInput(f"step {number}", "a path inside the worktree")
