"""Any order of events: no task is doubled, no result lost."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agentcom.model.agent import AgentSpec
from agentcom.model.ids import Fence, Instant, TaskId
from agentcom.model.result import Landing, LandStatus, ReportKind, Result, ResultStatus
from agentcom.model.task import Phase, StopReason
from agentcom.protocol import frames
from agentcom.sidecar import machine, machine_attempts
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Stage
from tests.sidecar.machine_world import (
    ADA,
    COMMIT,
    DONE,
    LANDED,
    LANDS,
    T1,
    T2,
    assign,
    key,
    welcome,
)

TASKS = (T1, T2)

KEYS = st.builds(key, st.sampled_from(TASKS), st.integers(1, 3))

RESULTS = st.sampled_from((DONE, LANDS, Result(status=ResultStatus.FAILED)))

LANDINGS = st.sampled_from((LANDED, Landing(status=LandStatus.CONFLICT), None))

REPORTED = (frames.Checkpoint, frames.Finish, frames.StoppedFrame, frames.LandedFrame)

STORED = frozenset({Stage.PREPARING, Stage.READY, *machine_attempts.REPORTS})


def frame_facts() -> st.SearchStrategy[values.Fact]:
    fences = st.builds(Fence, st.just(7), st.integers(1, 3))
    named: dict[str, st.SearchStrategy] = {"task": st.sampled_from(TASKS), "fence": fences}
    return st.one_of(
        st.just(values.Connected()),
        st.just(values.Disconnected()),
        st.just(welcome()),
        st.builds(frames.Beat, n=st.integers(0, 5)),
        st.builds(
            assign,
            st.sampled_from(TASKS),
            st.integers(1, 3),
            landing_only=st.booleans(),
        ),
        st.builds(frames.StopFrame, **named, reason=st.sampled_from((None, StopReason.CANCELLED))),
        st.builds(frames.LandFrame, **named),
        st.builds(frames.Notice, **named, text=st.just("also touches a")),
        st.builds(frames.Ack, **named, of=st.sampled_from(ReportKind), applied=st.booleans()),
        st.sampled_from(("heartbeat", "reports")).map(values.TimerFired),
    )


def work_facts() -> st.SearchStrategy[values.Fact]:
    return st.one_of(
        st.builds(values.Stored, KEYS, st.sampled_from(sorted(STORED))),
        st.builds(values.NotStored, KEYS, st.sampled_from(sorted(STORED)), st.just("full")),
        st.builds(values.PhaseReached, KEYS, st.sampled_from((Phase.WORKING, Phase.VERIFYING))),
        st.builds(values.Saved, KEYS, st.just(COMMIT)),
        st.builds(values.Ended, KEYS, RESULTS),
        st.builds(values.Stopped, KEYS, st.none() | RESULTS),
        st.builds(values.LandEnded, KEYS, LANDINGS),
    )


FACTS = st.lists(st.tuples(st.integers(0, 8_000), frame_facts() | work_facts()), max_size=60)


class World:
    """Lets only happen what can happen, and checks what must always be true."""

    def __init__(self) -> None:
        self.now = Instant(0)
        self.view, _ = machine.load(FOUR_SLOTS, [])
        self.unsaved: list[tuple[values.Key, Stage]] = []
        self.working: set[values.Key] = set()
        self.saved: dict[values.Key, Stage] = {}
        self.reported: set[tuple[values.Key, ReportKind]] = set()

    def take(self, fact: values.Fact) -> None:
        if not self._possible(fact):
            return
        before = {k: a.stage for k, a in self.view.attempts.items()}
        orders = machine.decide(self.view, fact, now=self.now)
        for order in orders:
            self._check(order, fact)
        self._nothing_lost(before, fact)
        live = Counter(
            k.task for k, a in self.view.attempts.items() if a.stage in machine_attempts.LIVE
        )
        assert all(count == 1 for count in live.values()), live
        assert len(self.working) == len({k.task for k in self.working})

    def _possible(self, fact: values.Fact) -> bool:
        match fact:
            case values.Stored(k, stage) | values.NotStored(k, stage):
                if (k, stage) not in self.unsaved:
                    return False
                self.unsaved.remove((k, stage))
                if isinstance(fact, values.Stored):
                    self.saved[k] = stage
            case values.Ended(k) | values.Stopped(k) | values.LandEnded(k):
                if k not in self.working:
                    return False
                landing = self.view.attempts[k].granted
                if isinstance(fact, values.LandEnded) is not landing:
                    return False
                self.working.discard(k)
            case frames.Ack():
                return (values.Key(fact.task, fact.fence), fact.of) in self.reported
            case _:
                pass
        return True

    def _check(self, order: values.Order, fact: values.Fact) -> None:
        match order:
            case values.Send(frame):
                first = isinstance(frame, frames.MachineHello) and self.view.connected
                assert first or self.view.session is not None
                if isinstance(frame, REPORTED):
                    kind = ReportKind(str(type(frame).__struct_config__.tag))
                    self.reported.add((values.Key(frame.task, frame.fence), kind))
                if isinstance(frame, frames.Finish | frames.LandedFrame):
                    stage = Stage.FINISHED if isinstance(frame, frames.Finish) else Stage.LANDED
                    k = values.Key(frame.task, frame.fence)
                    assert (
                        self.saved.get(k) is stage
                        or isinstance(fact, values.NotStored)
                        or (self.view.attempts[k].stored)
                    )
            case values.Store(kept):
                self.unsaved.append((kept.key, kept.stage))
            case values.Start(kept) | values.Land(kept):
                assert kept.key not in self.working
                self.working.add(kept.key)
                if isinstance(order, values.Land):
                    assert machine.lease_valid(self.view, self.now)
            case values.Forget():
                assert isinstance(fact, frames.Ack | values.NotStored)
            case _:
                pass

    def _nothing_lost(self, before: dict[values.Key, Stage], fact: values.Fact) -> None:
        for k, stage in before.items():
            if k in self.view.attempts or stage is Stage.STORING:
                continue
            assert stage in machine_attempts.REPORTS
            assert isinstance(fact, frames.Ack)


FOUR_SLOTS = (AgentSpec(name=ADA, runtime="testagent", slots=4),)


@given(FACTS)
def test_no_order_of_events_doubles_a_task_or_loses_a_result(
    steps: list[tuple[int, values.Fact]],
) -> None:
    world = World()
    world.take(values.Connected())
    world.take(welcome())
    for delay_ms, fact in steps:
        world.now = Instant(world.now + delay_ms)
        world.take(fact)


@given(FACTS, st.sampled_from(TASKS), st.integers(1, 3))
def test_every_stop_leads_to_a_report(
    steps: list[tuple[int, values.Fact]], task: TaskId, attempt: int
) -> None:
    world = World()
    world.take(values.Connected())
    world.take(welcome())
    for _, fact in steps:
        world.take(fact)
    world.take(values.Connected())
    world.take(welcome())
    name = key(task, attempt)
    orders = machine.decide(
        world.view, frames.StopFrame(task=task, fence=name.fence), now=world.now
    )

    sent = list(orders)
    ends: tuple[values.Fact, ...] = (
        values.Stopped(name),
        values.LandEnded(name, LANDED),
        *(values.Stored(name, stage) for stage in sorted(STORED)),
    )
    for fact in ends:
        sent += machine.decide(world.view, fact, now=world.now)
    reports = [order.frame for order in sent if isinstance(order, values.Send)]
    assert any(
        isinstance(frame, frames.StoppedFrame | frames.LandedFrame) and frame.task == task
        for frame in reports
    )
