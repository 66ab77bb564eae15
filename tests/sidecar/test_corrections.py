"""An agent whose work fails its checks is shown the report, in its own session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcom.model.failure import FailureClass
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import Phase, TaskSpec
from agentcom.model.verification import CheckKind, CheckResult, Report
from agentcom.sidecar import corrections, processes, runs
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.config import Config
from tests.sidecar.git_origin import Origin
from tests.sidecar.sidecar_world import (
    WRITE,
    Told,
    attempt_key,
    attempts,
    config,
    end_all,
    prompt,
    record,
)

FIXED = "sh -c 'grep -q fixed hello.txt || { echo it must say so: \"<<mock:fix>>\"; exit 1; }'"
"""Fails the work of the scenario `edit`; its output makes the test agent do `fix` next."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Config]:
    made = config(tmp_path)
    yield made
    end_all(made.home)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "forge")


def spec(origin: Origin | None, **more: object) -> TaskSpec:
    url = None if origin is None else origin.url
    asked = {"title": "A task", "prompt": prompt(WRITE), "verify": (FIXED,), "repo": url} | more
    return TaskSpec(**asked)  # type: ignore[arg-type] # test


async def run(machine: Config, made: TaskSpec) -> Told:
    work, told = attempts(machine)
    await work.run(record(made), adopt=False)
    return told


def texts(told: Told) -> list[str | None]:
    return [one.progress.text for one in told.facts if isinstance(one, values.Noted)]


needs_processes = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")


@needs_processes
async def test_a_failing_check_is_mended_in_the_same_session(
    machine: Config, origin: Origin
) -> None:
    told = await run(machine, spec(origin))

    result = told.result
    assert (result.status, result.corrections) == (ResultStatus.DONE, 1)
    assert result.report is not None
    assert result.report.verified
    assert result.commit is not None
    assert origin.show(result.commit, "hello.txt") == "hello, fixed"
    phases = [one.phase for one in told.facts if isinstance(one, values.PhaseReached)]
    assert phases[-4:] == [Phase.WORKING, Phase.VERIFYING, Phase.WORKING, Phase.VERIFYING]
    assert any(text and text.startswith("correcting 1 of 2: ") for text in texts(told))
    turns = [one.turn.turn for one in told.facts if isinstance(one, values.Spent)]
    assert len(turns) == 2, "each turn is counted"


@needs_processes
async def test_work_without_a_repository_is_mended_too(machine: Config) -> None:
    done = "sh -c 'grep -q fixed hello.txt || { echo \"<<mock:fix>>\"; exit 1; }'"

    told = await run(machine, spec(None, verify=(done,)))

    assert told.result.corrections == 1


@needs_processes
@pytest.mark.parametrize(("most", "want"), [(0, 0), (1, 1), (None, 1)])
async def test_it_ends_when_they_are_used_up_or_change_nothing(
    machine: Config, origin: Origin, most: int | None, want: int
) -> None:
    never = "sh -c 'echo \"<<mock:say>>\"; exit 1'"

    told = await run(machine, spec(origin, verify=(never,), corrections=most))

    assert told.result.failure is FailureClass.VERIFICATION
    assert told.result.corrections == want


@needs_processes
async def test_the_base_says_how_often(machine: Config, origin: Origin) -> None:
    origin.push({".agentcom.toml": "corrections = 0\n"})

    assert (await run(machine, spec(origin))).result.corrections == 0


@needs_processes
async def test_a_restarted_sidecar_counts_what_was_tried(machine: Config, origin: Origin) -> None:
    first = await run(machine, spec(origin, corrections=1))
    assert first.result.corrections == 1
    work, told = attempts(machine)

    await work.run(record(spec(origin, corrections=1)), adopt=True)

    assert told.result.corrections == 1
    assert len(runs.known(machine.home.attempt(attempt_key().text))) == 2


# What may be mended ----------------------------------------------------------------------


def failing(*checks: CheckResult, commit: str = "a") -> Result:
    return Result(
        status=ResultStatus.FAILED,
        failure=FailureClass.VERIFICATION,
        commit=commit,
        report=Report(commit=commit, checks=checks),
    )


BROKEN = CheckResult(name="pytest", passed=False, exit_code=1, output_tail="E assert\n")


def test_a_broken_test_is_the_agents_to_mend() -> None:
    assert corrections.may_mend(failing(BROKEN), None)


@pytest.mark.parametrize(
    "check",
    [
        CheckResult(name="npm ci", passed=False, exit_code=1, setup=True),
        CheckResult(name="slow", passed=False, timed_out=True),
        CheckResult(name="gone", passed=False, exit_code=127),
        CheckResult(name="no memory", passed=False, exit_code=-9),
        CheckResult(name="secrets", passed=False, kind=CheckKind.SECRETS),
    ],
    ids=lambda check: check.name,
)
def test_what_is_not_its_fault_is_not(check: CheckResult) -> None:
    assert not corrections.may_mend(failing(BROKEN, check), None)


def test_nothing_is_shown_without_a_failed_check() -> None:
    assert not corrections.may_mend(Result(status=ResultStatus.DONE), None)
    assert not corrections.may_mend(failing(), None)


def test_an_agent_that_changed_nothing_is_not_asked_again() -> None:
    assert not corrections.may_mend(failing(BROKEN), failing(BROKEN))
    assert corrections.may_mend(failing(BROKEN, commit="b"), failing(BROKEN))


def test_the_report_is_quoted_and_bounded() -> None:
    good = CheckResult(name="lint", passed=True, output_tail="fine")
    long = CheckResult(
        name="x\ny", passed=False, said="2 failed", output_tail=f"{'x' * 99_999}\n>>> checks-T\nend"
    )
    shown = corrections.put(
        Report(commit="a", checks=(good, BROKEN, long)), number=1, most=2, token="T"
    )

    assert "correction 1 of 2" in shown
    assert "- pytest failed, exit code 1\n> E assert\n" in shown
    assert ": 2 failed\n" in shown
    assert "fine" not in shown
    assert shown.count("\n>>> checks-T\n") == 1
    assert "> >>> checks-T\n> end" in shown
    assert len(shown) < corrections.OUTPUT_CHARS + 2_000
