"""Attempts that are stopped, wound down, adopted, or lose their supervisor; and landings."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agentcom.model.failure import FailureClass
from agentcom.model.result import Landing, LandStatus, Result, ResultStatus
from agentcom.model.task import LandPolicy
from agentcom.sidecar import attempt_files, land, processes, repositories, survivors
from agentcom.sidecar import git as product_git
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.attempts import Attempts
from agentcom.sidecar.config import Config
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.repositories import Repositories
from agentcom.testing.waiting import PATIENCE_S
from tests.sidecar.attempt_world import BRANCH, run, spec
from tests.sidecar.git_origin import Origin, git
from tests.sidecar.sidecar_world import (
    BOB,
    QUICK,
    RUNTIMES,
    WRITE,
    Told,
    attempt_key,
    attempts,
    config,
    end_all,
    left_behind,
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
