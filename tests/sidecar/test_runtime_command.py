import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.model import errors
from agentcom.model.failure import FailureClass
from agentcom.sidecar import process
from agentcom.sidecar.runtime import base
from agentcom.sidecar.runtime.command import PlainCommand

HOSTILE = "$(touch pwned) `touch pwned` {prompt} ; touch pwned"


def job(root: Path, *command: str, **settings: str) -> base.Job:
    return base.Job(
        task="t1",
        attempt="t1-1.1",
        prompt=HOSTILE,
        task_file=str(root / "task.json"),
        worktree=str(root),
        home=str(root),
        command=command,
        settings=settings,
        environment={"PATH": os.environ["PATH"]},
    )


async def run(root: Path, *command: str) -> base.Verdict:
    runtime = PlainCommand()
    running = await process.start(root / "attempt", runtime.launch(job(root, *command)))
    parser = runtime.parser()
    async for _, line in running.lines():
        parser.feed(line)
    return parser.finish(await running.wait())


async def test_exit_zero_succeeds_and_the_last_lines_are_the_summary(tmp_path: Path) -> None:
    verdict = await run(tmp_path, "sh", "-c", "seq 10")

    assert verdict == base.Verdict(failure=None, summary="6\n7\n8\n9\n10")


async def test_another_exit_is_the_agents_failure(tmp_path: Path) -> None:
    verdict = await run(tmp_path, "sh", "-c", "echo no luck; exit 4")

    assert verdict.failure is FailureClass.AGENT
    assert verdict.message == "exit 4: no luck"


async def test_a_signal_is_a_crash(tmp_path: Path) -> None:
    assert (await run(tmp_path, "sh", "-c", "kill -9 $$")).failure is FailureClass.CRASHED


async def test_the_task_comes_by_environment_and_never_by_argv(tmp_path: Path) -> None:
    script = 'echo "$AGENTCOM_TASK|$AGENTCOM_TASK_FILE|$AGENTCOM_WORKTREE|$AGENTCOM_ATTEMPT|$*"'
    verdict = await run(tmp_path, "sh", "-c", script, "sh", "{prompt}")

    assert verdict.summary == f"t1|{tmp_path}/task.json|{tmp_path}|t1-1.1|{{prompt}}"
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("stop", "failure"),
    [
        (base.Stop.DEADLINE, FailureClass.DEADLINE),
        (base.Stop.NO_PROGRESS, FailureClass.NO_PROGRESS),
        (base.Stop.CANCELLED, FailureClass.AGENT),
    ],
)
def test_a_run_that_we_ended_is_no_success_even_with_exit_zero(
    stop: base.Stop, failure: FailureClass
) -> None:
    verdict = PlainCommand().parser().finish(base.Exit(code=0, stop=stop))

    assert verdict.failure is failure


def test_a_lost_supervisor_is_a_crash() -> None:
    verdict = PlainCommand().parser().finish(base.Exit(code=None))

    assert verdict.failure is FailureClass.CRASHED


def test_a_task_without_a_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput):
        PlainCommand().launch(job(tmp_path))


def test_the_agents_own_program_runs_when_the_task_has_no_command(tmp_path: Path) -> None:
    assert PlainCommand().launch(job(tmp_path, binary="lint-it")).argv == ("lint-it",)


def test_preflight_names_the_missing_program() -> None:
    found = PlainCommand().preflight({"binary": "no-such-program"})

    assert not found.ready
    assert "no-such-program" in found.problem
    assert PlainCommand().preflight({"binary": "sh"}).ready


@given(st.lists(st.binary(max_size=200)))
def test_no_bytes_upset_the_parser(lines: list[bytes]) -> None:
    parser = PlainCommand().parser()
    for line in lines:
        parser.feed(line)

    assert parser.finish(base.Exit(code=0)).failure is None
