import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from agentcom.model.failure import FailureClass
from agentcom.model.ids import TaskId
from agentcom.model.result import Landing, LandStatus, Result, ResultStatus
from agentcom.model.task import LandPolicy, Phase, TaskSpec
from agentcom.sidecar import attempt_files, land, processes, repositories, survivors
from agentcom.sidecar import git as product_git
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.attempts import Attempts
from agentcom.sidecar.config import Config, RepositorySettings
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.repositories import Repositories
from agentcom.testing.waiting import PATIENCE_S
from tests.sidecar.git_origin import Origin, git
from tests.sidecar.sidecar_world import (
    BOB,
    QUICK,
    RUNTIMES,
    TASK,
    WRITE,
    Told,
    attempt_key,
    attempts,
    config,
    end_all,
    left_behind,
    prompt,
    record,
)

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")

BRANCH = "agent/ada/t1-a-task-7.1"


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


def spec(origin: Origin | None, *steps: Mapping[str, object], **fields: object) -> TaskSpec:
    repo = origin.url if origin is not None else None
    made = TaskSpec(title="A task", prompt=prompt(*steps), repo=repo)
    return msgspec.structs.replace(made, **fields)


async def run(machine: Config, made: Record, *, adopt: bool = False) -> Told:
    runner, told = attempts(machine)
    async with asyncio.timeout(50):
        await runner.run(made, adopt=adopt)
    return told


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


async def test_a_silent_agent_is_stopped(origin: Origin, tmp_path: Path) -> None:
    made = config(tmp_path, settings=msgspec.structs.replace(QUICK, between_events_ms=300))

    result = (await run(made, record(spec(origin, {"say": "hm"}, {"hang": True})))).result

    assert result.failure is FailureClass.NO_PROGRESS


async def test_a_tool_that_runs_stops_the_clock(origin: Origin, tmp_path: Path) -> None:
    made = config(tmp_path, settings=msgspec.structs.replace(QUICK, between_events_ms=1_500))
    slow = {"shell": ["sleep", "2.2"]}

    result = (await run(made, record(spec(origin, {"say": "hm"}, slow, WRITE)))).result

    assert result.status is ResultStatus.DONE


async def test_a_deadline_ends_the_agent(origin: Origin, machine: Config) -> None:
    wanted = spec(origin, {"say": "hm"}, {"hang": True}, deadline_ms=700)

    result = (await run(machine, record(wanted))).result

    assert result.failure is FailureClass.DEADLINE


async def test_winding_down_kills_the_tree_and_keeps_the_work(
    origin: Origin, machine: Config
) -> None:
    made = record(spec(origin, WRITE, {"spawn_orphan": True}, {"hang": True}))
    runner, told = attempts(machine)
    running = asyncio.create_task(runner.run(made, adopt=False))
    await _said(told, "orphan ")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    await runner.wind_down(made, stale=False)

    assert not left_behind(machine.home)
    assert told.stopped.result is None
    assert git(origin.path, "show", "refs/agentcom/checkpoint/t1/7.1:hello.txt") == "hello"


async def test_what_a_stopped_run_had_stated_is_counted(origin: Origin, machine: Config) -> None:
    made = record(spec(origin, {"say": "working"}, {"hang": True}))
    runner, told = attempts(machine)
    running = asyncio.create_task(runner.run(made, adopt=False))
    await told.wait_for(values.Noted)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await runner.stop(made)
    with (machine.home.attempt(made.key.text) / attempt_files.STDOUT).open("ab") as output:
        output.write(b'{"type":"usage","input":7,"output":3}\n')  # as its last words

    await runner.wind_down(made, stale=False)

    spent = [fact.turn for fact in told.facts if isinstance(fact, values.Spent)]
    assert [(turn.turn, turn.input, turn.output, turn.agent) for turn in spent] == [
        (1, 7, 3, "ada")
    ]
    assert told.stopped.result is None


async def test_a_run_tells_its_turns_before_its_end(origin: Origin, machine: Config) -> None:
    told = await run(machine, record(spec(origin, WRITE)))

    kinds = [type(fact) for fact in told.facts]
    assert kinds.count(values.Spent) == 1
    assert kinds.index(values.Spent) < kinds.index(values.Ended)


async def test_a_stale_attempt_leaves_its_work_for_a_person(
    origin: Origin, machine: Config
) -> None:
    made = record(spec(origin, WRITE, {"say": "written"}, {"hang": True}))
    runner, told = attempts(machine)
    running = asyncio.create_task(runner.run(made, adopt=False))
    await _said(told, "written")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    await runner.wind_down(made, stale=True)

    assert told.stopped.result is not None
    assert told.stopped.result.commit == origin.tip(BRANCH)


async def test_a_successor_adopts_the_agent_of_a_cancelled_run(
    origin: Origin, machine: Config, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    made = record(spec(origin, {"say": "before"}, {"wait_for": str(go)}, WRITE))
    runner, told = attempts(machine)
    running = asyncio.create_task(runner.run(made, adopt=False))
    await _said(told, "before")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    go.touch()

    result = (await run(machine, made, adopt=True)).result

    assert result.status is ResultStatus.DONE
    assert result.summary == "before"


async def test_a_lost_supervisor_is_a_crash_whose_work_is_rescued(
    origin: Origin, machine: Config
) -> None:
    made = record(spec(origin, WRITE, {"say": "written"}, {"hang": True}))
    runner, told = attempts(machine)
    running = asyncio.create_task(runner.run(made, adopt=False))
    await _said(told, "written")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    _kill_supervisor(machine)

    result = (await run(machine, made, adopt=True)).result

    assert result.failure is FailureClass.CRASHED
    assert git(origin.path, "show", f"{BRANCH}:hello.txt") == "hello"
    assert result.commit == origin.tip(BRANCH)


async def test_an_attempt_that_was_stored_and_never_started_is_started(
    origin: Origin, machine: Config
) -> None:
    result = (await run(machine, record(spec(origin, WRITE)), adopt=True)).result

    assert result.status is ResultStatus.DONE


# Landing ------------------------------------------------------------------------------------------


async def landed(
    machine: Config, made: Record, result: Result, *, lease: bool = True
) -> Landing | None:
    done = msgspec.structs.replace(made, result=result)
    where = Repositories(machine.home.repositories)
    return await land.land(done, where, machine.machine.settings, lambda: lease)


async def test_a_granted_result_enters_its_base(origin: Origin, machine: Config) -> None:
    made = record(spec(origin, WRITE, verify=("true",)))
    result = (await run(machine, made)).result

    landing = await landed(machine, made, result)

    assert landing is not None
    assert landing.status is LandStatus.LANDED
    assert landing.commit == origin.tip() == result.commit


async def test_a_base_that_moved_is_checked_again(origin: Origin, machine: Config) -> None:
    made = record(spec(origin, WRITE, verify=("test ! -f meanwhile.txt",)))
    result = (await run(machine, made)).result
    moved = origin.push({"meanwhile.txt": "1\n"})

    landing = await landed(machine, made, result)

    assert landing is not None
    assert landing.status is LandStatus.VERIFICATION
    assert landing.report is not None
    assert not landing.report.verified
    assert origin.tip() == moved


async def test_a_base_that_conflicts_is_left_alone(origin: Origin, machine: Config) -> None:
    made = record(spec(origin, WRITE))
    result = (await run(machine, made)).result
    moved = origin.push({"hello.txt": "other\n"})

    landing = await landed(machine, made, result)

    assert landing is not None
    assert landing.status is LandStatus.CONFLICT
    assert origin.tip() == moved


async def test_nothing_lands_without_a_lease(origin: Origin, machine: Config) -> None:
    made = record(spec(origin, WRITE))
    result = (await run(machine, made)).result
    before = origin.tip()

    assert await landed(machine, made, result, lease=False) is None
    assert origin.tip() == before


async def test_another_machine_lands_without_the_agent(
    origin: Origin, machine: Config, tmp_path: Path
) -> None:
    result = (await run(machine, record(spec(origin, WRITE)))).result
    elsewhere = config(tmp_path / "elsewhere")
    made = record(spec(origin, WRITE), attempt=2, landing_only=True, commit=result.commit)

    where = Repositories(elsewhere.home.repositories)
    landing = await land.land(made, where, QUICK, lambda: True)

    assert landing is not None
    assert landing.commit == origin.tip() == result.commit


async def test_a_task_that_landed_already_is_reported_and_not_done_again(
    origin: Origin, machine: Config, tmp_path: Path
) -> None:
    wanted = spec(origin, WRITE, verify=("test -f hello.txt",), land=LandPolicy.MERGE)
    first = record(wanted)
    await landed(machine, first, (await run(machine, first)).result)
    second = record(wanted, attempt=2)

    result = (await run(config(tmp_path / "elsewhere"), second)).result
    again = await landed(machine, second, result)

    assert result.status is ResultStatus.DONE
    assert again is not None
    assert again.status is LandStatus.LANDED
    assert again.commit == result.commit == origin.tip()


async def test_our_own_variables_do_not_reach_the_agent(
    machine: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "secret")
    monkeypatch.setenv("OTHER_KEY", "secret")

    told = await run(machine, record(spec(None, command=("env",)), agent=BOB))

    log = "".join(fact.progress.log for fact in told.facts if isinstance(fact, values.Noted))
    assert "PATH=" in log
    assert "secret" not in log


def _kill_supervisor(machine: Config) -> None:
    folder = machine.home.attempt(attempt_key().text)
    found = survivors.read_record(folder)
    assert found is not None
    entry = processes.read_entry(found.pid)
    assert entry is not None
    processes.kill(entry)
    processes.wait_gone([entry], timeout_ms=5_000)


async def _said(told: Told, text: str) -> None:
    def heard() -> bool:
        notes = (fact for fact in told.facts if isinstance(fact, values.Noted))
        return any(text in note.progress.log for note in notes)

    async with asyncio.timeout(PATIENCE_S), told._changed:
        await told._changed.wait_for(heard)


async def test_a_repository_that_denies_the_push_is_told_to_the_machine(
    origin: Origin, machine: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = product_git.GitFailed(
        "push",
        128,
        "remote: Permission to acme/api denied to bob.\n"
        "fatal: The requested URL returned error: 403",
    )

    async def push(*_: object) -> None:
        raise denied

    monkeypatch.setattr(repositories, "push", push)
    shut: list[str] = []
    told = Told()
    tries = Attempts(machine, runtimes=RUNTIMES, tell=told.tell, shut_out=shut.append)

    await tries.run(record(spec(origin, WRITE)), adopt=False)

    assert told.result.failure is FailureClass.WORKSPACE
    assert shut == [origin.url]
    assert not left_behind(machine.home)
