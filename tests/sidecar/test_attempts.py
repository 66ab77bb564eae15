import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agentcom.model.failure import FailureClass
from agentcom.model.ids import TaskId
from agentcom.model.result import ResultStatus
from agentcom.model.task import LandPolicy, Phase
from agentcom.sidecar import git as product_git
from agentcom.sidecar import machine_values as values
from agentcom.sidecar import processes, repositories
from agentcom.sidecar.config import Config, RepositorySettings
from tests.sidecar.attempt_world import BRANCH, run, spec
from tests.sidecar.git_origin import Origin, git
from tests.sidecar.sidecar_world import (
    BOB,
    QUICK,
    TASK,
    WRITE,
    attempt_key,
    attempts,
    config,
    end_all,
    record,
)

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return Origin(tmp_path_factory.mktemp("template") / "forge")


@pytest.fixture
def origin(tmp_path: Path, template: Origin) -> Origin:
    return Origin(tmp_path / "forge", template)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Config]:
    made = config(tmp_path)
    yield made
    end_all(made.home)


async def test_work_is_committed_verified_and_pushed(origin: Origin, machine: Config) -> None:
    wanted = spec(origin, {"say": "I add it"}, WRITE, verify=("test -f hello.txt",))

    result = (await run(machine, record(wanted))).result

    assert result.status is ResultStatus.DONE
    assert result.report is not None
    assert result.report.verified
    assert result.report.commit == result.commit == origin.tip(BRANCH)
    assert result.branch == BRANCH
    assert result.base_commit == origin.tip()
    assert result.land_key == f"{origin.url}#main"
    assert result.summary == "I add it"
    assert result.usage.output > 0


async def test_phases_and_progress_are_told_on_the_way(origin: Origin, machine: Config) -> None:
    told = await run(machine, record(spec(origin, {"say": "I add it"}, WRITE)))

    phases = [fact.phase for fact in told.facts if isinstance(fact, values.PhaseReached)]
    progress = [fact.progress for fact in told.facts if isinstance(fact, values.Noted)]
    assert phases == [Phase.WORKING, Phase.VERIFYING]
    assert "I add it" in "".join(frame.log for frame in progress)
    assert progress[-1].usage.output > 0


async def test_an_agent_that_changes_nothing_has_not_done_it(
    origin: Origin, machine: Config
) -> None:
    result = (await run(machine, record(spec(origin, {"say": "done!"})))).result

    assert result.failure is FailureClass.NO_CHANGE
    assert origin.tip(BRANCH) == ""


async def test_a_failed_check_is_no_success_and_its_work_is_kept(
    origin: Origin, machine: Config
) -> None:
    wanted = spec(origin, WRITE, verify=("test -f missing.txt",))

    result = (await run(machine, record(wanted))).result

    assert result.failure is FailureClass.VERIFICATION
    assert result.verify_expected
    assert origin.tip(BRANCH) == result.commit


async def test_the_tasks_checks_come_before_those_of_the_base(
    origin: Origin, machine: Config
) -> None:
    origin.push({".agentcom.toml": 'verify = "false"\nland = "merge"\n'})

    told = await run(machine, record(spec(origin, WRITE, verify=("true",))))

    report = told.result.report
    assert report is not None
    assert [check.name for check in report.checks] == ["true"]
    assert told.result.land is LandPolicy.MERGE


async def test_the_bases_checks_come_before_those_that_were_confirmed(
    origin: Origin, tmp_path: Path
) -> None:
    confirmed = {origin.url: RepositorySettings(verify=("false",))}
    made = config(tmp_path, settings=msgspec.structs.replace(QUICK, repositories=confirmed))
    unsaid = (await run(made, record(spec(origin, WRITE)))).result
    origin.push({".agentcom.toml": 'verify = "true"\n'})

    said = (await run(made, record(spec(origin, WRITE), attempt=2))).result

    assert unsaid.failure is FailureClass.VERIFICATION
    assert said.status is ResultStatus.DONE


async def test_an_agent_cannot_choose_its_own_checks(origin: Origin, machine: Config) -> None:
    origin.push({".agentcom.toml": 'verify = "test -f missing.txt"\n'})
    cheat = {"write": {"path": ".agentcom.toml", "text": 'verify = "true"\n'}}

    result = (await run(machine, record(spec(origin, cheat)))).result

    assert result.failure is FailureClass.VERIFICATION
    assert result.needs_person == ("changes .agentcom.toml",)


async def test_an_agents_error_is_a_failure_whose_work_is_kept(
    origin: Origin, machine: Config
) -> None:
    result = (await run(machine, record(spec(origin, WRITE, {"error": "auth"})))).result

    assert result.failure is FailureClass.AUTH
    assert origin.tip(BRANCH) == result.commit
    assert git(origin.path, "show", f"{BRANCH}:hello.txt") == "hello"


async def test_an_exhausted_quota_parks_the_task_with_a_checkpoint(
    origin: Origin, machine: Config
) -> None:
    result = (await run(machine, record(spec(origin, WRITE, {"error": "quota"})))).result

    assert result.status is ResultStatus.PARKED
    assert result.checkpoint == origin.ref("refs/agentcom/checkpoint/t1/7.1")


async def test_work_in_progress_is_saved_while_the_agent_works(
    origin: Origin, tmp_path: Path
) -> None:
    made = config(tmp_path, settings=msgspec.structs.replace(QUICK, checkpoint_interval_ms=50))
    go = tmp_path / "go"
    runner, told = attempts(made)
    running = asyncio.create_task(
        runner.run(record(spec(origin, WRITE, {"wait_for": str(go)})), adopt=False)
    )

    await told.wait_for(values.Saved)
    saved = origin.ref("refs/agentcom/checkpoint/t1/7.1")
    go.touch()
    await running

    assert git(origin.path, "show", f"{saved}:hello.txt") == "hello"


async def test_a_later_attempt_goes_on_from_the_checkpoint(
    origin: Origin, machine: Config, tmp_path: Path
) -> None:
    first = (await run(machine, record(spec(origin, WRITE, {"error": "agent"})))).result
    elsewhere = config(tmp_path / "elsewhere")
    more = {"write": {"path": "more.txt", "text": "more\n"}}

    result = (
        await run(elsewhere, record(spec(origin, more), attempt=2, checkpoint=first.checkpoint))
    ).result

    assert git(origin.path, "show", f"{result.commit}:hello.txt") == "hello"
    assert git(origin.path, "show", f"{result.commit}:more.txt") == "more"


async def test_a_checkpoint_brings_the_newest_words_and_what_was_changed(
    origin: Origin, machine: Config
) -> None:
    told = await run(machine, record(spec(origin, WRITE, {"say": "half done"}, {"error": "agent"})))

    saved = told.all(values.Saved)[-1]
    assert isinstance(saved, values.Saved)
    assert (saved.note, saved.touched, saved.touched_count) == ("half done", ("hello.txt",), 1)


async def test_inputs_are_merged_into_the_fresh_base(origin: Origin, machine: Config) -> None:
    needed = origin.push({"needed.txt": "1\n"}, branch="dependency")
    origin.push({"meanwhile.txt": "1\n"})

    result = (await run(machine, record(spec(origin, WRITE), inputs=(needed,)))).result

    files = git(origin.path, "ls-tree", "--name-only", str(result.commit)).split()
    assert {"needed.txt", "meanwhile.txt", "hello.txt"} <= set(files)


async def test_inputs_that_conflict_fail_the_attempt(origin: Origin, machine: Config) -> None:
    needed = origin.push({"README": "theirs\n"}, branch="dependency")
    origin.push({"README": "ours\n"})

    result = (await run(machine, record(spec(origin, WRITE), inputs=(needed,)))).result

    assert result.failure is FailureClass.CONFLICT


async def test_an_overtaken_attempt_starts_no_agent(
    origin: Origin, machine: Config, tmp_path: Path
) -> None:
    await run(config(tmp_path / "elsewhere"), record(spec(origin, WRITE), attempt=2))

    told = await run(machine, record(spec(origin, WRITE)))

    assert told.facts == [values.Stopped(attempt_key())]
    assert not machine.home.attempt(attempt_key().text).exists()


async def test_a_repository_that_is_not_there_is_a_failure_of_the_workspace(
    tmp_path: Path, machine: Config
) -> None:
    missing = spec(None, WRITE, repo=str(tmp_path / "nowhere.git"))

    result = (await run(machine, record(missing))).result

    assert result.failure is FailureClass.WORKSPACE


async def test_an_attempt_waits_for_an_origin_that_is_away_and_says_so(
    origin: Origin, machine: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "RETRY_S", 0.0)
    real, left = repositories.Repositories.fetch, [2 * repositories.REMOTE_TRIES_MAX]

    async def flaky(self: repositories.Repositories, url: str) -> repositories.Cache:
        if left[0]:
            left[0] -= 1
            raise product_git.GitFailed("fetch", 128, "fatal: Could not resolve host: forge")
        return await real(self, url)

    monkeypatch.setattr(repositories.Repositories, "fetch", flaky)

    told = await run(machine, record(spec(origin, WRITE)))

    assert told.result.status is ResultStatus.DONE
    said = [fact.progress.text for fact in told.facts if isinstance(fact, values.Noted)]
    assert any("Could not resolve host" in text for text in said)


async def test_an_agent_that_is_not_here_is_a_failure_of_its_own(machine: Config) -> None:
    gone = record(spec(None, WRITE), agent=TaskId("gone"))  # type: ignore[arg-type] # any name

    result = (await run(machine, gone)).result

    assert result.failure is FailureClass.NOT_INSTALLED


async def test_a_command_without_a_repository_needs_no_change(machine: Config) -> None:
    wanted = spec(None, command=("sh", "-c", "echo hi > out.txt; echo done"))

    result = (await run(machine, record(wanted, agent=BOB))).result

    assert result.status is ResultStatus.DONE
    assert result.summary == "done"
    assert (machine.home.scratch(TASK) / "out.txt").read_text() == "hi\n"


async def test_a_command_without_a_repository_can_be_checked(machine: Config) -> None:
    wanted = spec(None, command=("true",), verify=("test -f out.txt",))

    result = (await run(machine, record(wanted, agent=BOB))).result

    assert result.failure is FailureClass.VERIFICATION


async def test_the_task_file_is_private_and_outside_the_worktree(
    origin: Origin, machine: Config
) -> None:
    await run(machine, record(spec(origin, WRITE)))

    path = machine.home.attempt(attempt_key().text) / "task.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert msgspec.json.decode(path.read_bytes())["title"] == "A task"
