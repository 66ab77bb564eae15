"""Tokens of agents that state what a whole session has cost."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from agentcom.model.result import Result
from agentcom.model.task import TaskSpec
from agentcom.sidecar import processes
from agentcom.sidecar.attempts import Attempts
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.runtime import base
from agentcom.sidecar.runtime.codex import Codex
from agentcom.sidecar.session_usage import SinceBefore, Stated
from tests.sidecar.git_origin import Origin
from tests.sidecar.sidecar_world import Told, config, end_all, record


def lines(total: int, session: str = "s") -> Sequence[bytes]:
    usage = {"input_tokens": total, "cached_input_tokens": total, "output_tokens": total}
    said = {"type": "agent_message", "text": "x"}
    rows: Sequence[Mapping[str, object]] = (
        {"type": "thread.started", "thread_id": session},
        {"type": "item.completed", "item": said},
        {"type": "turn.completed", "usage": usage},
    )
    return [json.dumps(row).encode() for row in rows]


class Spanning:
    """Reads a program that states, after each turn, what its whole session has cost."""

    def __init__(self) -> None:
        self._verdict = base.Verdict(failure=None)

    def feed(self, line: bytes) -> Sequence[base.RuntimeEvent]:
        row = json.loads(line)
        if "thread_id" in row:
            self._verdict = msgspec.structs.replace(self._verdict, session=row["thread_id"])
            return [base.SessionStarted(row["thread_id"])]
        if "usage" not in row:
            return [base.Text(row["item"]["text"])]
        total = row["usage"]["output_tokens"]
        usage = base.Usage(input=total, cached=total, output=total)
        self._verdict = msgspec.structs.replace(self._verdict, usage=usage)
        return [usage, base.TurnEnded(base.Stop.END_TURN)]

    def finish(self, _ended: base.Exit) -> base.Verdict:
        return self._verdict


def spent(total: int, before: Stated, session: str = "s") -> tuple[int, int, Stated | None]:
    """Return what the events and the verdict count, and what is kept."""
    parser = SinceBefore(Spanning(), before)
    events = [event for line in lines(total, session) for event in parser.feed(line)]
    verdict = parser.finish(base.Exit(code=0))
    counted = sum(event.output for event in events if isinstance(event, base.Usage))
    return counted, verdict.usage.output, parser.stated


def test_a_resumed_run_counts_only_its_own_tokens() -> None:
    first, _, kept = spent(100, Stated())
    assert kept is not None

    assert first == 100
    assert spent(150, kept) == (50, 50, Stated("s", base.Usage(150, 150, 150)))


@pytest.mark.parametrize("session", ["other", "s"])
def test_a_count_that_began_anew_is_not_reduced(session: str) -> None:
    assert spent(80, Stated("s", base.Usage(100, 100, 100)), session)[:2] == (80, 80)


def test_turns_of_one_run_are_counted_once() -> None:
    parser = SinceBefore(Spanning(), Stated("s", base.Usage(100, 100, 100)))
    rows = [*lines(130), lines(150)[-1]]

    events = [event for row in rows for event in parser.feed(row)]

    assert [event.output for event in events if isinstance(event, base.Usage)] == [30, 20]
    assert parser.finish(base.Exit(code=0)).usage.output == 50


class Scripted(Codex):
    """Says that its totals span the session, with a total that the test sets."""

    name = "testagent"

    def __init__(self, total: int) -> None:
        self._total = total

    def parser(self) -> base.Parser:
        return Spanning()

    def launch(self, job: base.Job) -> base.Launch:
        text = "\n".join(row.decode() for row in lines(self._total))
        script = f"echo $0 >> file.txt; cat <<'END'\n{text}\nEND"
        path = job.environment["PATH"]
        return base.Launch(
            argv=("sh", "-c", script, job.attempt), environment={"PATH": path}, cwd=job.worktree
        )


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_an_attempt_that_goes_on_with_a_session_counts_its_own_tokens(
    tmp_path: Path,
) -> None:
    origin = Origin(tmp_path / "forge")
    machine = config(tmp_path)

    async def run(total: int, made: Record, *, adopt: bool = False) -> Result:
        told = Told()
        runtimes = {"testagent": Scripted(total)}
        async with asyncio.timeout(50):
            await Attempts(machine, runtimes=runtimes, tell=told.tell).run(made, adopt=adopt)
        return told.result

    task = TaskSpec(title="A task", prompt="x", repo=origin.url)
    second = record(task, attempt=2)
    resumed = msgspec.structs.replace(second.assignment, session="s")
    second = msgspec.structs.replace(second, assignment=resumed)

    first = await run(100, record(task))
    again = await run(150, second)
    adopted = await run(150, second, adopt=True)

    assert first.usage.output == 100
    assert again.usage.output == adopted.usage.output == 50
    end_all(machine.home)
