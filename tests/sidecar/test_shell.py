import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from agentcom.model import errors
from agentcom.model.agent import HeldStage
from agentcom.model.ids import AgentId, Fence, Instant, Now, TaskId
from agentcom.model.result import LandStatus, ResultStatus
from agentcom.model.task import Phase, StopReason, TaskSpec
from agentcom.protocol import frames
from agentcom.sidecar import computer, process, processes
from agentcom.sidecar.clock import SystemClock
from agentcom.sidecar.config import AgentConfig, Config
from agentcom.sidecar.machine_values import Key, Record
from agentcom.sidecar.outbox import DiskRefused, Outbox
from agentcom.sidecar.shell import EXIT_DONE, EXIT_NOT_ALLOWED, Sidecar
from agentcom.testing.waiting import PATIENCE_S, until
from tests.client.fake_hub import FakeHub
from tests.sidecar.git_origin import Origin, git
from tests.sidecar.sidecar_world import (
    ADA,
    BOB,
    FIRST,
    RUNTIMES,
    TASK,
    WRITE,
    config,
    end_all,
    left_behind,
    prompt,
    record,
)

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")


class Quick:
    """No pause before the next dial."""

    def random(self) -> float:
        return 0.0


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as running:
        yield running


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return Origin(tmp_path_factory.mktemp("template") / "forge")


@pytest.fixture
def origin(tmp_path: Path, template: Origin) -> Origin:
    return Origin(tmp_path / "forge", template)


@pytest.fixture
def machine(tmp_path: Path, hub: FakeHub) -> Iterator[Config]:
    made = config(tmp_path, hub.url)
    yield made
    end_all(made.home)


class Running:
    """A sidecar that runs, and its end."""

    def __init__(self, config: Config, clock: SystemClock | None = None) -> None:
        self.sidecar = Sidecar(config, runtimes=RUNTIMES, rng=Quick(), clock=clock)
        self.task = asyncio.create_task(self.sidecar.run(handle_signals=False))

    async def end(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self.task

    async def stop(self) -> int:
        self.sidecar.stop()
        return await self.end()


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Running]:
    made = Running(config)
    try:
        yield made
    finally:
        if not made.task.done():
            await made.stop()


def spec(origin: Origin | None, *steps: object, **fields: object) -> TaskSpec:
    repo = origin.url if origin is not None else None
    made = TaskSpec(title="A task", prompt=prompt(*steps), repo=repo)  # type: ignore[arg-type] # steps as the scenario has them
    return msgspec.structs.replace(made, **fields)


def assign(made: Record) -> frames.Assign:
    return frames.Assign(assignment=made.assignment, body=made.body)


def waiting(go: Path) -> object:
    return {"wait_for": str(go)}


async def test_a_task_goes_from_assignment_to_acknowledged_result(
    hub: FakeHub, machine: Config, origin: Origin
) -> None:
    async with running(machine):
        await hub.connected()
        await hub.send(assign(record(spec(origin, WRITE, verify=("true",)))))

        await hub.expect(frames.Accept)
        finish = await hub.expect(frames.Finish)

    assert finish.result.status is ResultStatus.DONE
    assert origin.tip("agent/ada/t1-a-task-7.1") == finish.result.commit
    assert not list((machine.home.outbox / "held").iterdir())
    assert len(list((machine.home.outbox / "kept").iterdir())) == 1


async def test_the_hub_sees_phases_and_progress(
    hub: FakeHub, machine: Config, origin: Origin
) -> None:
    async with running(machine):
        await hub.connected()
        await hub.send(assign(record(spec(origin, {"say": "hello there"}, WRITE))))

        await hub.expect(frames.Progress, lambda frame: frame.phase is Phase.WORKING)
        await hub.expect(frames.Progress, lambda frame: "hello there" in frame.log)
        await hub.expect(frames.Progress, lambda frame: frame.phase is Phase.VERIFYING)
        await hub.expect(frames.Finish)


async def test_a_blip_in_the_middle_changes_nothing(
    hub: FakeHub, machine: Config, origin: Origin, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with running(machine):
        await hub.connected()
        await hub.send(assign(record(spec(origin, WRITE, waiting(go)))))
        await hub.expect(frames.Progress, lambda frame: frame.phase is Phase.WORKING)
        await hub.stop()
        await hub.start()
        await hub.connected(2)
        hello = hub.all(frames.MachineHello)[1]
        go.touch()

        finish = await hub.expect(frames.Finish)

    assert [held.stage for held in hello.held] == [HeldStage.RUNNING]
    assert finish.result.status is ResultStatus.DONE


async def test_a_result_of_an_absent_hub_arrives_when_it_is_back(
    hub: FakeHub, machine: Config, origin: Origin, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with running(machine):
        await hub.connected()
        await hub.send(assign(record(spec(origin, WRITE, waiting(go)))))
        await hub.expect(frames.Progress, lambda frame: frame.phase is Phase.WORKING)
        await hub.stop()
        go.touch()
        await until(lambda: b'"finished"' in _held(machine))

        await hub.start()

        finish = await hub.expect(frames.Finish)
    assert finish.result.status is ResultStatus.DONE


async def test_a_result_outlives_the_sidecar_and_the_hub(
    hub: FakeHub, machine: Config, origin: Origin
) -> None:
    hub.acks = False
    async with running(machine):
        await hub.connected()
        await hub.send(assign(record(spec(origin, WRITE))))
        first = await hub.expect(frames.Finish)
    hub.acks = True

    async with running(machine):
        again = await hub.expect(frames.Finish, count=2)

    assert again == first


async def test_the_same_assignment_twice_runs_once(
    hub: FakeHub, machine: Config, origin: Origin, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    made = assign(record(spec(origin, WRITE, waiting(go))))
    async with running(machine):
        await hub.connected()
        await hub.send(made)
        await hub.expect(frames.Progress, lambda frame: frame.phase is Phase.WORKING)
        await hub.send(made)
        await hub.expect(frames.Accept, count=2)
        go.touch()

        await hub.expect(frames.Finish)

    assert len(hub.all(frames.Finish)) == 1


async def test_a_cancelled_task_is_dead_before_it_is_reported(
    hub: FakeHub, machine: Config, origin: Origin
) -> None:
    steps = (WRITE, {"spawn_orphan": True}, {"hang": True})
    async with running(machine):
        await hub.connected()
        await hub.send(assign(record(spec(origin, *steps))))
        await hub.expect(frames.Progress, lambda frame: "orphan" in frame.log)
        await hub.send(frames.StopFrame(task=TASK, fence=FIRST, reason=StopReason.CANCELLED))

        await hub.expect(frames.StoppedFrame)

        assert not left_behind(machine.home)
    assert hub.all(frames.Finish) == []
    assert git(origin.path, "show", "refs/agentcom/checkpoint/t1/7.1:hello.txt") == "hello"


async def test_a_newer_attempt_waits_for_the_end_of_the_older(
    hub: FakeHub, machine: Config, origin: Origin
) -> None:
    async with running(machine):
        await hub.connected()
        await hub.send(assign(record(spec(origin, {"say": "first"}, {"hang": True}))))
        await hub.expect(frames.Progress, lambda frame: "first" in frame.log)
        await hub.send(assign(record(spec(origin, WRITE), attempt=2)))

        finish = await hub.expect(frames.Finish)

    assert finish.fence == Fence(7, 2)
    stopped = next(i for i, f in enumerate(hub.got) if isinstance(f, frames.StoppedFrame))
    working = next(
        i for i, f in enumerate(hub.got) if isinstance(f, frames.Progress) and f.fence.attempt == 2
    )
    assert stopped < working


async def test_a_restarted_sidecar_adopts_its_agents(
    hub: FakeHub, machine: Config, origin: Origin, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    first = Running(machine)
    await hub.connected()
    await hub.send(assign(record(spec(origin, WRITE, {"say": "working"}, waiting(go)))))
    await hub.expect(frames.Progress, lambda frame: "working" in frame.log)
    assert await first.stop() == EXIT_DONE

    async with running(machine):
        await hub.connected(2)
        go.touch()
        finish = await hub.expect(frames.Finish)

    assert finish.result.status is ResultStatus.DONE
    assert [held.fence for held in hub.all(frames.MachineHello)[1].held] == [FIRST]


async def test_an_agent_that_ended_without_its_sidecar_is_reported_by_the_next(
    hub: FakeHub, machine: Config, origin: Origin, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    first = Running(machine)
    await hub.connected()
    await hub.send(assign(record(spec(origin, WRITE, {"say": "working"}, waiting(go)))))
    await hub.expect(frames.Progress, lambda frame: "working" in frame.log)
    await first.stop()
    go.touch()
    folder = machine.home.attempt(Key(TASK, FIRST).text)
    await until(lambda: process.ended(folder) is not None)

    async with running(machine):
        finish = await hub.expect(frames.Finish)

    assert finish.result.status is ResultStatus.DONE


async def test_a_granted_landing_is_reported(hub: FakeHub, machine: Config, origin: Origin) -> None:
    origin.push({".agentcom.toml": 'verify = "true"\nland = "merge"\n'})
    async with running(machine):
        await hub.connected()
        await hub.send(assign(record(spec(origin, WRITE))))
        finish = await hub.expect(frames.Finish)
        await hub.send(frames.LandFrame(task=TASK, fence=FIRST))

        landed = await hub.expect(frames.LandedFrame)

    assert landed.landing.status is LandStatus.LANDED
    assert origin.tip() == finish.result.commit


async def test_a_landing_without_the_agent_needs_only_the_commit(
    hub: FakeHub, machine: Config, origin: Origin
) -> None:
    commit = origin.push({"work.txt": "1\n"}, branch="agent/bob/t1-a-task-7.1")
    made = record(spec(origin, WRITE), attempt=2, landing_only=True, commit=commit)
    async with running(machine):
        await hub.connected()
        await hub.send(assign(made))
        await hub.expect(frames.Accept)
        await hub.send(frames.LandFrame(task=TASK, fence=Fence(7, 2)))

        landed = await hub.expect(frames.LandedFrame)

    assert landed.landing.commit == commit == origin.tip()


async def test_a_bad_token_ends_the_sidecar(machine: Config, hub: FakeHub) -> None:
    wrong = msgspec.structs.replace(machine, token="acm_mch_wrong")

    assert await Running(wrong).end() == EXIT_NOT_ALLOWED
    assert hub.connections == 1


async def test_a_revoked_machine_ends_its_agents_and_itself(
    machine: Config, hub: FakeHub, origin: Origin
) -> None:
    made = Running(machine)
    await hub.connected()
    await hub.send(assign(record(spec(origin, WRITE, {"say": "working"}, {"hang": True}))))
    await hub.expect(frames.Progress, lambda frame: "working" in frame.log)

    await hub.close(4401)

    assert await made.end() == EXIT_NOT_ALLOWED
    assert not left_behind(machine.home)


async def test_a_hub_that_falls_silent_is_dialled_again(machine: Config, hub: FakeHub) -> None:
    hub.ttl_ms = 400
    hub.beats = False
    async with running(machine):
        await hub.connected(2)


async def test_an_idle_sidecar_only_sends_heartbeats(machine: Config, hub: FakeHub) -> None:
    hub.ttl_ms = 200
    async with running(machine):
        await hub.expect(frames.HeartbeatFrame, count=5)

    assert {type(frame) for frame in hub.got} == {frames.MachineHello, frames.HeartbeatFrame}
    assert len(hub.all(frames.MachineHello)) == 1


async def test_two_sidecars_with_one_identity_exclude_each_other(
    machine: Config, hub: FakeHub
) -> None:
    async with running(machine):
        await hub.connected()

        with pytest.raises(errors.Conflict, match=rf"another sidecar \(process {os.getpid()}\)"):
            await Running(machine).end()


async def test_a_second_task_of_a_busy_agent_is_declined_and_others_go_on(
    hub: FakeHub, machine: Config, origin: Origin
) -> None:
    other = record(spec(None, command=("true",)), agent=BOB)
    other = msgspec.structs.replace(
        other, assignment=msgspec.structs.replace(other.assignment, task=TaskId("t2"))
    )
    second = msgspec.structs.replace(
        other, assignment=msgspec.structs.replace(other.assignment, agent=ADA, task=TaskId("t3"))
    )
    async with running(machine):
        await hub.connected()
        await hub.send(assign(record(spec(origin, {"say": "busy"}, {"hang": True}))))
        await hub.send(assign(second))
        await hub.send(assign(other))

        decline = await hub.expect(frames.Decline)
        finish = await hub.expect(frames.Finish)
        await hub.expect(frames.Progress, lambda frame: "busy" in frame.log)

    assert decline.task == "t3"
    assert finish.task == "t2"


async def test_an_attempt_that_became_stale_in_the_meantime_leaves_its_work(
    hub: FakeHub, machine: Config, origin: Origin
) -> None:
    first = Running(machine)
    await hub.connected()
    await hub.send(assign(record(spec(origin, WRITE, {"say": "written"}, {"hang": True}))))
    await hub.expect(frames.Progress, lambda frame: "written" in frame.log)
    await first.stop()

    async with running(machine):
        await hub.connected(2)
        await hub.send(frames.StopFrame(task=TASK, fence=FIRST))
        stopped = await hub.expect(frames.StoppedFrame)

    assert stopped.result is not None
    assert stopped.result.commit == origin.tip("agent/ada/t1-a-task-7.1")
    assert not left_behind(machine.home)


async def test_a_full_disk_declines_new_work_and_running_work_is_reported(
    hub: FakeHub, machine: Config, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"

    def full(*_: object) -> None:
        raise DiskRefused("cannot store: No space left on device")

    async with running(machine):
        await hub.connected()
        await hub.send(assign(record(spec(origin, WRITE, waiting(go)))))
        await hub.expect(frames.Progress, lambda frame: frame.phase is Phase.WORKING)
        monkeypatch.setattr(Outbox, "store", full)
        other = record(spec(None, command=("true",)), agent=BOB)
        task = msgspec.structs.replace(other.assignment, task=TaskId("t2"))
        await hub.send(assign(msgspec.structs.replace(other, assignment=task)))
        decline = await hub.expect(frames.Decline)
        go.touch()

        finish = await hub.expect(frames.Finish)

    assert "No space left" in decline.reason
    assert finish.result.status is ResultStatus.DONE


async def test_a_machine_that_was_removed_ends(machine: Config, hub: FakeHub) -> None:
    hub.welcomes = False
    made = Running(machine)
    await hub.connected()

    await hub.send(frames.ErrorFrame(code="not_allowed", message="join again"))

    assert await made.end() == EXIT_NOT_ALLOWED


def _held(machine: Config) -> bytes:
    return b"".join(path.read_bytes() for path in (machine.home.outbox / "held").glob("[!.]*.json"))


async def test_a_restored_hub_gets_once_what_it_had_acknowledged(
    hub: FakeHub, machine: Config
) -> None:
    task = record(spec(None, command=("true",)), agent=BOB)
    async with running(machine):
        await hub.connected()
        await hub.send(assign(task))
        finish = await hub.expect(frames.Finish)
        await until(lambda: list((machine.home.outbox / "kept").iterdir()))
    hub.incarnation, hub.ttl_ms = 8, 400

    async with running(machine):
        again = await hub.expect(frames.Finish, count=2)
        await until(lambda: machine.home.incarnation.read_text() == "8")
    async with running(machine):
        await hub.connected(3)
        await hub.expect(frames.HeartbeatFrame, lambda frame: frame.session == 3)

    assert again == finish
    assert len(hub.all(frames.Finish)) == 2


async def test_the_first_welcome_is_announced_once(hub: FakeHub, machine: Config) -> None:
    welcomes: list[int] = []
    sidecar = Sidecar(
        machine, runtimes=RUNTIMES, rng=Quick(), on_welcome=lambda _: welcomes.append(1)
    )
    ended = asyncio.create_task(sidecar.run(handle_signals=False))
    await until(lambda: welcomes)

    hub.cut()
    await hub.connected(2)
    await hub.expect(frames.HeartbeatFrame, lambda frame: frame.session == 2)

    sidecar.stop()
    await ended
    assert welcomes == [1]


# Agents, restarts and sleep -----------------------------------------------------------------------


class Sleeper(SystemClock):
    """A clock that goes on while everything else stands still."""

    def __init__(self) -> None:
        self.slept_ms = 0

    def now(self) -> Now:
        now = super().now()
        return Now(Instant(now.instant + self.slept_ms), now.wall)


async def test_an_agent_is_added_while_another_works(
    hub: FakeHub, machine: Config, origin: Origin, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    async with running(machine) as made:
        await hub.connected()
        await hub.send(assign(record(spec(origin, WRITE, waiting(go)))))
        await hub.expect(frames.Progress, lambda frame: frame.phase is Phase.WORKING)
        cy = AgentConfig(name=AgentId("cy"), runtime="testagent")
        stays = tuple(it for it in machine.machine.agents if it.name == BOB)
        machine.home.save(msgspec.structs.replace(machine.machine, agents=(*stays, cy)))
        made.sidecar.reload()
        hello = await hub.expect(frames.MachineHello, count=2)
        go.touch()
        finish = await hub.expect(frames.Finish)

    assert {agent.name for agent in hello.agents} == {BOB, "cy"}
    assert [item.stage for item in hello.held] == [HeldStage.RUNNING]
    assert finish.result.status is ResultStatus.DONE


async def test_what_the_hub_is_told_has_the_computer_in_it(hub: FakeHub, machine: Config) -> None:
    async with running(machine):
        hello = await hub.expect(frames.MachineHello)

    assert all(agent.problem == "" for agent in hello.agents)
    assert all(any(it.startswith("os=") for it in agent.capabilities) for agent in hello.agents)


async def test_an_agent_that_broke_since_declines_and_says_why(
    hub: FakeHub, machine: Config, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(machine):
        await hub.connected()
        monkeypatch.setattr(computer, "free_bytes", lambda _folder: 1)
        await hub.send(assign(record(spec(origin, WRITE))))
        hello = await hub.expect(frames.MachineHello, count=2)

        assert {"free some space" in agent.problem for agent in hello.agents} == {True}
        assert hello.held == ()
        await hub.send(assign(record(spec(origin, WRITE))))
        declined = await hub.expect(frames.Decline)

    assert "free some space" in declined.reason


async def test_a_computer_that_slept_dials_again_at_once(hub: FakeHub, machine: Config) -> None:
    clock = Sleeper()
    made = Running(machine, clock=clock)
    await hub.expect(frames.HeartbeatFrame)

    clock.slept_ms = 3_600_000
    await hub.connected(2)

    # Nothing was sent on the link of before: nobody at its other end had waited.
    beats = [frame.n for frame in hub.all(frames.HeartbeatFrame) if frame.session == 1]
    assert beats == sorted(set(beats))
    await hub.expect(frames.HeartbeatFrame, lambda frame: frame.session == 2)
    await made.stop()


async def test_the_hub_can_ask_for_a_process_anew(
    hub: FakeHub, machine: Config, origin: Origin, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    made = Running(machine)
    await hub.connected()
    await hub.send(assign(record(spec(origin, WRITE, waiting(go)))))
    await hub.expect(frames.Progress, lambda frame: frame.phase is Phase.WORKING)
    await hub.send(frames.Drain(retry_after_ms=0, restart=True))

    assert await made.end() == EXIT_DONE
    assert made.sidecar.restarts
    assert left_behind(machine.home)
    go.touch()
    async with running(machine):
        finish = await hub.expect(frames.Finish)
    assert finish.result.status is ResultStatus.DONE
