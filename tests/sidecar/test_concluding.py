"""What becomes of an agent's work when its end does not go as it should."""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from agentcom.model import errors
from agentcom.model.failure import FailureClass
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import LandPolicy, TaskSpec
from agentcom.sidecar import checks, processes, repositories, trees, workspace
from agentcom.sidecar.config import Config
from agentcom.sidecar.machine_values import Record
from tests.sidecar.git_origin import Origin
from tests.sidecar.sidecar_world import (
    WRITE,
    attempt_key,
    attempts,
    config,
    end_all,
    prompt,
    record,
)

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")

BRANCH = "agent/ada/t1-a-task-7.1"
SECRET = {"write": {"path": "settings.py", "text": f"KEY = 'ghp_{'a1B2' * 10}'\n"}}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return Origin(tmp_path_factory.mktemp("template") / "forge")


@pytest.fixture
def origin(tmp_path: Path, template: Origin) -> Origin:
    return Origin(tmp_path / "forge", template)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Config]:
    made = config(tmp_path)
    yield made
    end_all(made.home)


def spec(origin: Origin, *steps: object, verify: tuple[str, ...] = ("test -f README",)) -> Record:
    wanted = TaskSpec(
        title="A task",
        prompt=prompt(*steps),  # type: ignore[arg-type] # steps as the scenario has them
        repo=origin.url,
        verify=verify,
        land=LandPolicy.MERGE,
    )
    return record(wanted)


async def run(home: Config, made: Record) -> Result:
    runner, told = attempts(home)
    await runner.run(made, adopt=False)
    return told.result


def broken(*_: object, **__: object) -> NoReturn:
    raise errors.Timeout("the disk is slow")


async def test_work_that_was_all_left_out_is_no_change(origin: Origin, home: Config) -> None:
    result = await run(home, spec(origin, SECRET))

    assert result.failure is FailureClass.NO_CHANGE
    assert "left out: settings.py:1: GitHub token" in result.message
    assert result.needs_person
    assert origin.tip(BRANCH) == ""


async def test_work_on_another_branch_is_named(origin: Origin, home: Config) -> None:
    away = ["git", "checkout", "-q", "-b", "mine"]
    back = ["git", "checkout", "-q", "-"]
    steps = ({"shell": away}, WRITE, {"commit": "Mine"}, {"shell": back})

    result = await run(home, spec(origin, *steps))

    assert result.failure is FailureClass.NO_CHANGE
    assert "heads/mine" in result.message


async def test_a_folder_that_its_agent_removed_is_said_so(origin: Origin, home: Config) -> None:
    result = await run(home, spec(origin, WRITE, {"shell": ["sh", "-c", "rm -rf $PWD"]}))

    assert result.failure is FailureClass.WORKSPACE
    assert "its agent has removed it" in result.message


async def test_work_that_was_partly_left_out_waits_for_a_person(
    origin: Origin, home: Config
) -> None:
    result = await run(home, spec(origin, SECRET, WRITE))

    assert result.status is ResultStatus.DONE
    assert result.needs_person == ("left out: settings.py:1: GitHub token",)
    assert origin.files(str(result.commit)) == ["README", "hello.txt", "tests/test_a.py"]
    assert not result.lands


async def test_a_command_that_is_not_understood_costs_no_agent(
    origin: Origin, home: Config
) -> None:
    result = await run(home, spec(origin, WRITE, verify=("pytest && ruff check",)))

    assert result.failure is FailureClass.WORKSPACE
    assert "no shell runs it" in result.message
    assert not home.home.attempt(attempt_key().text).exists()


async def test_a_project_file_that_is_not_understood_costs_no_agent(
    origin: Origin, home: Config
) -> None:
    origin.push({".agentcom.toml": "verify = 'a && b'\n"})

    result = await run(home, spec(origin, WRITE, verify=()))

    assert result.failure is FailureClass.WORKSPACE
    assert not home.home.attempt(attempt_key().text).exists()


@pytest.mark.parametrize("step", ["plan", "checkout"])
async def test_what_fails_after_the_commit_does_not_lose_it(
    origin: Origin, home: Config, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    if step == "checkout":
        monkeypatch.setattr(trees, "checkout", broken)
    else:
        good = checks.plan

        async def plan(*args: object) -> checks.CheckPlan:
            if home.home.attempt(attempt_key().text).exists():
                broken()
            return await good(*args)  # type: ignore[arg-type] # passed on

        monkeypatch.setattr(checks, "plan", plan)

    result = await run(home, spec(origin, WRITE))

    assert result.failure is FailureClass.WORKSPACE
    assert result.message == "the disk is slow"
    assert result.commit == origin.tip(BRANCH) != ""
    assert result.branch == BRANCH
    assert result.usage.output > 0


async def test_what_cannot_be_committed_is_checkpointed_and_counted(
    origin: Origin, home: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "finish", broken)

    result = await run(home, spec(origin, WRITE))

    assert result.failure is FailureClass.WORKSPACE
    assert result.checkpoint == origin.ref("refs/agentcom/checkpoint/t1/7.1") != ""
    assert result.usage.output > 0
    assert result.session


async def test_good_work_waits_for_an_origin_that_is_away(
    origin: Origin, home: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "RETRY_S", 0.0)
    away = after_the_agent(home, origin, monkeypatch, tries=3 * repositories.REMOTE_TRIES_MAX)

    result = await run(home, spec(origin, WRITE))

    assert (result.status, result.failure) == (ResultStatus.DONE, None)
    assert result.commit == origin.tip(BRANCH) != ""
    assert away == [0]


async def test_failed_work_does_not_wait_for_an_origin_that_is_away(
    origin: Origin, home: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "RETRY_S", 0.0)
    tries = 3 * repositories.REMOTE_TRIES_MAX
    away = after_the_agent(home, origin, monkeypatch, tries=tries)

    result = await run(home, spec(origin, WRITE, verify=("false",)))

    assert result.status is ResultStatus.FAILED
    assert away == [tries - repositories.REMOTE_TRIES_MAX]


def after_the_agent(
    home: Config, origin: Origin, monkeypatch: pytest.MonkeyPatch, *, tries: int
) -> list[int]:
    """Have origin vanish when the work is committed, for that many pushes."""
    left, real = [tries], repositories.push

    async def push(cache: repositories.Cache, *moves: repositories.Move) -> None:
        if not any(move.ref.endswith(BRANCH) for move in moves) or left[0] == 0:
            return await real(cache, *moves)
        left[0] -= 1
        elsewhere = origin.path.with_name("away")
        origin.path.rename(elsewhere)
        try:
            await real(cache, *moves)
        finally:
            elsewhere.rename(origin.path)

    monkeypatch.setattr(repositories, "push", push)
    return left
