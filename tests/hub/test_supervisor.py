import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agentcom.hub.supervisor import INTENSITY, ChildSpec, Escalated, Restart, Supervisor
from agentcom.testing.waiting import PATIENCE_S
from tests.hub.doubles import FixedRng, ManualClock


class Stage:
    """Children that tell what becomes of them, under a supervisor that never really waits."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.said: list[str] = []
        self.delays: list[float] = []
        self.restarts: list[str] = []
        self.pause_ms = 0
        self.supervisor = self.supervise()

    async def sleep(self, seconds: float) -> None:
        self.delays.append(seconds)
        self.clock.advance(self.pause_ms)
        await asyncio.sleep(0)

    def supervise(self, *children: ChildSpec) -> Supervisor:
        self.supervisor = Supervisor(
            children,
            clock=self.clock,
            rng=FixedRng(),
            restarted=self.restarts.append,
            sleep=self.sleep,
        )
        return self.supervisor

    def lasting(self, name: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            self.said.append(f"{name} runs")
            try:
                await asyncio.Event().wait()
            finally:
                self.said.append(f"{name} ends")

        return run

    def failing(self, name: str, times: int) -> Callable[[], Awaitable[None]]:
        """Fail some times, then stop the supervisor and last."""
        left = [times]

        async def run() -> None:
            self.said.append(f"{name} runs")
            if left[0] == 0:
                self.supervisor.stop()
                await asyncio.Event().wait()
            left[0] -= 1
            raise RuntimeError(name)

        return run


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def within(supervisor: Supervisor) -> None:
    async with asyncio.timeout(PATIENCE_S):  # each failure is logged with its traceback
        await supervisor.run()


async def test_children_start_in_order_and_end_in_reverse(stage: Stage) -> None:
    children = [ChildSpec(name=name, run=stage.lasting(name)) for name in "abc"]
    running = asyncio.create_task(stage.supervise(*children).run())
    await asyncio.wait_for(stage.supervisor.ready.wait(), PATIENCE_S)
    await asyncio.sleep(0)

    stage.supervisor.stop()
    await asyncio.wait_for(running, PATIENCE_S)

    assert stage.said == ["a runs", "b runs", "c runs", "c ends", "b ends", "a ends"]


async def test_a_child_waits_until_the_one_before_is_ready(stage: Stage) -> None:
    ready, may = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        await may.wait()
        stage.said.append("a ready")
        ready.set()
        await asyncio.Event().wait()

    supervisor = stage.supervise(
        ChildSpec(name="a", run=slow, ready=ready),
        ChildSpec(name="b", run=stage.lasting("b")),
    )
    running = asyncio.create_task(supervisor.run())
    for _ in range(10):
        await asyncio.sleep(0)
    assert stage.said == []
    assert not supervisor.ready.is_set()

    may.set()
    await asyncio.wait_for(supervisor.ready.wait(), PATIENCE_S)
    await asyncio.sleep(0)
    supervisor.stop()
    await asyncio.wait_for(running, PATIENCE_S)

    assert stage.said == ["a ready", "b runs", "b ends"]


async def test_a_stop_while_a_child_gets_ready_starts_nothing_more(stage: Stage) -> None:
    supervisor = stage.supervise(
        ChildSpec(name="a", run=stage.lasting("a"), ready=asyncio.Event()),
        ChildSpec(name="b", run=stage.lasting("b")),
    )
    running = asyncio.create_task(supervisor.run())
    for _ in range(10):
        await asyncio.sleep(0)

    supervisor.stop()
    await asyncio.wait_for(running, PATIENCE_S)

    assert stage.said == ["a runs", "a ends"]


async def test_a_child_that_fails_is_restarted_and_the_others_go_on(stage: Stage) -> None:
    supervisor = stage.supervise(
        ChildSpec(name="a", run=stage.lasting("a")),
        ChildSpec(name="b", run=stage.failing("b", 3)),
    )

    await within(supervisor)

    assert stage.said == ["a runs", *["b runs"] * 4, "a ends"]
    assert stage.restarts == ["b"] * 3


async def test_the_pause_before_a_restart_doubles(stage: Stage) -> None:
    await within(stage.supervise(ChildSpec(name="a", run=stage.failing("a", 3))))

    assert stage.delays == [0.05, 0.1, 0.2]


async def test_more_failures_than_the_intensity_end_everything(stage: Stage) -> None:
    supervisor = stage.supervise(
        ChildSpec(name="a", run=stage.lasting("a")),
        ChildSpec(name="b", run=stage.failing("b", 4)),
    )

    with pytest.raises(Escalated) as escalated:
        await within(supervisor)

    assert escalated.value.child == "b"
    assert isinstance(escalated.value.__cause__, RuntimeError)
    assert stage.said[-1] == "a ends"


async def test_failures_that_are_far_apart_never_escalate(stage: Stage) -> None:
    stage.pause_ms = 15_000

    await within(stage.supervise(ChildSpec(name="a", run=stage.failing("a", 4 * INTENSITY))))

    assert len(stage.restarts) == 4 * INTENSITY


async def test_failures_of_different_children_count_together(stage: Stage) -> None:
    supervisor = stage.supervise(
        ChildSpec(name="a", run=stage.failing("a", 2)),
        ChildSpec(name="b", run=stage.failing("b", 2)),
    )

    with pytest.raises(Escalated):
        await within(supervisor)


async def test_a_critical_child_ends_everything_with_its_first_failure(stage: Stage) -> None:
    async def never() -> None:
        stage.said.append("asked")

    supervisor = stage.supervise(
        ChildSpec(name="a", run=stage.lasting("a"), stop=never),
        ChildSpec(name="store", run=stage.failing("store", 1), critical=True),
    )

    with pytest.raises(Escalated, match="store"):
        await within(supervisor)

    assert stage.said == ["a runs", "store runs", "a ends"]
    assert stage.restarts == []


async def test_a_critical_child_that_just_ends_is_a_failure_too(stage: Stage) -> None:
    async def end() -> None:
        return

    with pytest.raises(Escalated):
        await within(stage.supervise(ChildSpec(name="a", run=end, critical=True)))


async def test_a_failure_while_another_child_gets_ready_is_noticed(stage: Stage) -> None:
    supervisor = stage.supervise(
        ChildSpec(name="store", run=stage.failing("store", 1), critical=True),
        ChildSpec(name="b", run=stage.lasting("b"), ready=asyncio.Event()),
    )

    with pytest.raises(Escalated):
        await within(supervisor)


@pytest.mark.parametrize(
    ("restart", "fails", "runs"),
    [
        (Restart.PERMANENT, False, 2),
        (Restart.PERMANENT, True, 2),
        (Restart.TRANSIENT, False, 1),
        (Restart.TRANSIENT, True, 2),
        (Restart.TEMPORARY, False, 1),
        (Restart.TEMPORARY, True, 1),
    ],
)
async def test_a_child_is_restarted_as_its_kind_says(
    stage: Stage, restart: Restart, fails: bool, runs: int
) -> None:
    count = [0]

    async def run() -> None:
        count[0] += 1
        if count[0] > 1:
            await asyncio.Event().wait()
        if fails:
            raise RuntimeError

    supervisor = stage.supervise(ChildSpec(name="a", run=run, restart=restart))
    running = asyncio.create_task(supervisor.run())
    for _ in range(20):
        await asyncio.sleep(0)

    supervisor.stop()
    await asyncio.wait_for(running, PATIENCE_S)

    assert count[0] == runs


async def test_a_child_that_is_cancelled_from_inside_has_failed(stage: Stage) -> None:
    count = [0]

    async def run() -> None:
        count[0] += 1
        if count[0] == 1:
            raise asyncio.CancelledError
        stage.supervisor.stop()

    await within(stage.supervise(ChildSpec(name="a", run=run)))

    assert count[0] == 2


async def test_a_child_may_end_by_itself_when_it_is_asked(stage: Stage) -> None:
    asked = asyncio.Event()

    async def run() -> None:
        await asked.wait()
        stage.said.append("drained")

    async def stop() -> None:
        asked.set()

    supervisor = stage.supervise(ChildSpec(name="a", run=run, stop=stop))
    running = asyncio.create_task(supervisor.run())
    await asyncio.wait_for(supervisor.ready.wait(), PATIENCE_S)

    supervisor.stop()
    await asyncio.wait_for(running, PATIENCE_S)

    assert stage.said == ["drained"]
    assert stage.restarts == []


async def test_a_child_that_does_not_end_in_time_is_cancelled(stage: Stage) -> None:
    async def stop() -> None:
        stage.said.append("asked")

    child = ChildSpec(name="a", run=stage.lasting("a"), stop=stop, shutdown_ms=1)
    running = asyncio.create_task(stage.supervise(child).run())
    await asyncio.wait_for(stage.supervisor.ready.wait(), PATIENCE_S)
    await asyncio.sleep(0)

    stage.supervisor.stop()
    await asyncio.wait_for(running, PATIENCE_S)

    assert stage.said == ["a runs", "asked", "a ends"]


async def test_a_failing_stop_does_not_keep_a_child_alive(stage: Stage) -> None:
    async def stop() -> None:
        raise RuntimeError

    child = ChildSpec(name="a", run=stage.lasting("a"), stop=stop)
    running = asyncio.create_task(stage.supervise(child).run())
    await asyncio.wait_for(stage.supervisor.ready.wait(), PATIENCE_S)
    await asyncio.sleep(0)

    stage.supervisor.stop()
    await asyncio.wait_for(running, PATIENCE_S)

    assert stage.said == ["a runs", "a ends"]


async def test_a_child_that_clings_to_life_is_abandoned(stage: Stage) -> None:
    let_go = asyncio.Event()

    async def cling() -> None:
        stage.said.append("runs")
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                stage.said.append("no")

    running = asyncio.create_task(
        stage.supervise(ChildSpec(name="a", run=cling, shutdown_ms=1)).run()
    )
    await asyncio.wait_for(stage.supervisor.ready.wait(), PATIENCE_S)
    await asyncio.sleep(0)

    stage.supervisor.stop()
    await asyncio.wait_for(running, PATIENCE_S)

    assert stage.said == ["runs", "no"]
    let_go.set()


async def test_cancelling_the_supervisor_ends_the_children(stage: Stage) -> None:
    children = [ChildSpec(name=name, run=stage.lasting(name)) for name in "ab"]
    running = asyncio.create_task(stage.supervise(*children).run())
    await asyncio.wait_for(stage.supervisor.ready.wait(), PATIENCE_S)
    await asyncio.sleep(0)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert stage.said == ["a runs", "b runs", "b ends", "a ends"]
