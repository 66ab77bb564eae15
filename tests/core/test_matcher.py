"""The matching index against a brute-force oracle, and what only it promises."""

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agentcom.core.fairness import Rank
from agentcom.core.matcher import CANDIDATES_MAX, LOOK_AHEAD, Matcher
from agentcom.core.shapes import ClassId, Offers, ShapeId, Shapes, Wants
from agentcom.model.ids import AgentId, TaskId
from agentcom.model.requirement import canonical, canonical_capabilities, satisfies

ADA, BOB, CY = AgentId("ada"), AgentId("bob"), AgentId("cy")


class Fleet:
    """A matcher with short names for what tests do to it."""

    def __init__(self) -> None:
        self.shapes = Shapes()
        self.matcher = Matcher(self.shapes)
        self.seq = count()

    def shape(self, *needs: str) -> ShapeId:
        shape = self.shapes.shape_of(Wants(canonical(needs)))
        self.shapes.retain(shape)
        return shape

    def klass(self, *offers: str) -> ClassId:
        class_id = self.shapes.class_of(Offers(canonical_capabilities(offers)))
        self.shapes.retain_class(class_id)
        return class_id

    def submit(self, name: str, *needs: str, tag: float = 0.0, band: int = 1) -> TaskId:
        task_id = TaskId(name)
        self.matcher.enqueue(task_id, self.shape(*needs), (band, tag, next(self.seq)))
        return task_id

    def ready(self, agent_id: AgentId, *offers: str, slots: int = 1) -> None:
        self.matcher.set_free(agent_id, self.klass(*offers), slots)

    def pick(
        self, agent_id: AgentId, allowed: Callable[[TaskId], bool] | None = None
    ) -> TaskId | None:
        return pick(self.matcher, agent_id, allowed)


def pick(
    matcher: Matcher, agent_id: AgentId, allowed: Callable[[TaskId], bool] | None = None
) -> TaskId | None:
    """Return the task that an agent gets next, if it has a free slot."""
    agent = matcher.agent(agent_id)
    return None if agent is None or not agent[3] else matcher.pick_task(agent[2], allowed)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_an_empty_matcher_picks_nothing(fleet: Fleet) -> None:
    fleet.ready(ADA)

    assert fleet.pick(ADA) is None
    assert fleet.pick(BOB) is None
    assert fleet.matcher.pick_agent(fleet.shape("gpu")) is None


def test_an_agent_without_a_free_slot_is_not_picked(fleet: Fleet) -> None:
    fleet.submit("t")
    fleet.ready(ADA, slots=0)

    assert fleet.matcher.pick_agent(fleet.shape()) is None
    assert fleet.matcher.idle_bits == 0


def test_an_agent_that_was_used_goes_behind_the_others_though_its_slots_are_the_same(
    fleet: Fleet,
) -> None:
    fleet.ready(ADA, slots=2)
    fleet.ready(BOB, slots=2)

    fleet.matcher.set_free(ADA, fleet.klass(), 2, used=True)

    assert fleet.matcher.pick_agent(fleet.shape()) == BOB


def test_an_emergency_goes_first_and_then_the_lowest_tag(fleet: Fleet) -> None:
    late = fleet.submit("late", tag=9.0)
    soon = fleet.submit("soon", "gpu", tag=1.0)
    urgent = fleet.submit("urgent", tag=99.0, band=0)
    fleet.ready(ADA, "gpu")

    order = []
    while (task_id := fleet.pick(ADA)) is not None:
        fleet.matcher.withdraw(task_id)
        order.append(task_id)

    assert order == [urgent, soon, late]


def test_picking_changes_nothing(fleet: Fleet) -> None:
    task_id = fleet.submit("t")
    fleet.ready(ADA)

    assert fleet.pick(ADA) == fleet.pick(ADA) == task_id
    assert fleet.matcher.pick_agent(fleet.shape()) == ADA


def test_a_task_is_queued_once(fleet: Fleet) -> None:
    fleet.submit("t")

    with pytest.raises(AssertionError):
        fleet.submit("t")


def test_withdrawing_and_forgetting_what_is_not_there_is_harmless(fleet: Fleet) -> None:
    assert fleet.matcher.withdraw(TaskId("t")) is None
    assert fleet.matcher.forget_agent(ADA) is None


def test_a_veto_passes_over_tasks_without_losing_them(fleet: Fleet) -> None:
    tasks = [fleet.submit(f"t{n}", *(["gpu"] if n % 2 else []), tag=float(n)) for n in range(9)]
    fleet.ready(ADA, "gpu")

    picked = fleet.pick(ADA, lambda task_id: task_id == tasks[7])
    order = []
    while (task_id := fleet.pick(ADA)) is not None:
        fleet.matcher.withdraw(task_id)
        order.append(task_id)

    assert picked == tasks[7]
    assert order == tasks


def test_the_look_ahead_is_bounded_for_each_shape(fleet: Fleet) -> None:
    tasks = [fleet.submit(f"t{n}", tag=float(n)) for n in range(LOOK_AHEAD + 1)]
    other = fleet.submit("other", "gpu", tag=1e6)
    fleet.ready(ADA, "gpu")

    assert fleet.pick(ADA, lambda t: t == tasks[LOOK_AHEAD - 1]) is not None
    assert fleet.pick(ADA, lambda t: t == tasks[LOOK_AHEAD]) is None
    assert fleet.pick(ADA, lambda t: t == other) == other
    assert fleet.matcher.depth() == LOOK_AHEAD + 2


def test_the_agent_that_was_not_used_for_longest_is_picked(fleet: Fleet) -> None:
    for agent_id in (ADA, BOB, CY):
        fleet.ready(agent_id, slots=2)

    fleet.ready(ADA, slots=1)
    fleet.ready(BOB, slots=2)

    assert fleet.matcher.pick_agent(fleet.shape()) == BOB


def test_the_oldest_agent_is_found_across_classes(fleet: Fleet) -> None:
    fleet.ready(ADA, "a")
    fleet.ready(BOB, "b")
    fleet.ready(CY, "c")
    fleet.ready(ADA, "a", slots=2)

    assert fleet.matcher.pick_agent(fleet.shape()) == BOB


def test_a_veto_on_the_oldest_agent_finds_the_next(fleet: Fleet) -> None:
    fleet.ready(ADA, "a")
    fleet.ready(BOB, "b")
    fleet.ready(CY, "a")

    assert fleet.matcher.pick_agent(fleet.shape(), lambda a: a != ADA) == BOB
    assert fleet.matcher.pick_agent(fleet.shape(), lambda a: a == CY) == CY
    assert fleet.matcher.pick_agent(fleet.shape(), lambda _: False) is None
    assert fleet.matcher.pick_agent(fleet.shape()) == ADA


def test_the_best_score_among_few_candidates_wins_and_age_breaks_ties(fleet: Fleet) -> None:
    agents = [AgentId(f"a{n}") for n in range(CANDIDATES_MAX + 1)]
    for agent_id in agents:
        fleet.ready(agent_id)
    shape = fleet.shape()
    asked: list[AgentId] = []

    def score(agent_id: AgentId) -> float:
        asked.append(agent_id)
        return 1.0 if agent_id in agents[3:5] else 0.0

    assert fleet.matcher.pick_agent(shape, score=score) == agents[3]
    assert asked == agents[:CANDIDATES_MAX]


def test_an_agent_that_was_put_back_is_a_candidate_once(fleet: Fleet) -> None:
    fleet.ready(ADA)
    fleet.ready(BOB)
    old = fleet.matcher.set_free(BOB, fleet.klass(), 2)
    fleet.matcher.restore_agent(BOB, old)
    asked: list[AgentId] = []

    def score(agent_id: AgentId) -> float:
        asked.append(agent_id)
        return 0.0

    assert fleet.matcher.pick_agent(fleet.shape(), score=score) == ADA
    assert asked == [ADA, BOB]
    assert fleet.matcher.agent(BOB) == old


def test_a_preferred_agent_is_a_candidate_wherever_it_stands(fleet: Fleet) -> None:
    for agent_id in (ADA, BOB, CY):
        fleet.ready(agent_id, "gpu")
    fleet.ready(AgentId("poor"))
    fleet.ready(BOB, "gpu", slots=0)
    shape = fleet.shape("gpu")
    prefer = [AgentId("unknown"), AgentId("poor"), BOB, CY, CY]

    assert fleet.matcher.pick_agent(shape, prefer=prefer) == CY
    assert fleet.matcher.pick_agent(shape, lambda a: a != CY, prefer=prefer) == ADA
    assert fleet.matcher.pick_agent(shape, score=lambda _: 1.0, prefer=prefer) == CY
    assert fleet.matcher.pick_agent(shape, score=lambda a: float(a == ADA), prefer=prefer) == ADA


def test_the_queue_explains_itself(fleet: Fleet) -> None:
    first = fleet.submit("first", "gpu", tag=1.0)
    second = fleet.submit("second", tag=2.0)
    apart = fleet.submit("apart", "os=mac", tag=0.0)
    fleet.submit("third", "gpu", tag=3.0)
    fleet.submit("gone", "gone")
    fleet.matcher.withdraw(TaskId("gone"))
    fleet.ready(ADA, "gpu")

    queues = {shape: [entry[3] for entry in queue] for shape, queue in fleet.matcher.queues()}
    assert {frozenset(queue) for queue in queues.values()} >= {frozenset((apart,))}
    assert sum(map(len, queues.values())) == 4
    assert [head[3] for head in fleet.matcher.heads()] == [apart, first, second]
    assert fleet.matcher.depth() == 4
    assert fleet.matcher.depth(fleet.shape("gpu")) == 2
    assert fleet.matcher.depth(fleet.shape("new")) == 0


def test_the_fleet_explains_itself(fleet: Fleet) -> None:
    fleet.ready(ADA, "gpu", slots=2)
    gpu, new = fleet.klass("gpu"), fleet.klass("new")

    assert fleet.matcher.idle_bits == 1 << gpu
    assert (fleet.matcher.idle_count(gpu), fleet.matcher.idle_count(new)) == (1, 0)
    noted = fleet.matcher.agent(ADA)
    assert noted is not None
    assert noted[2:] == (gpu, 2)
    assert fleet.matcher.agent(BOB) is None


def test_slots_are_never_negative(fleet: Fleet) -> None:
    with pytest.raises(AssertionError):
        fleet.ready(ADA, slots=-1)


NEEDS = [(), ("gpu",), ("v>=2",), ("os=mac",), ("gpu", "v<3"), ("os!=mac",)]
OFFERS = [(), ("gpu",), ("gpu", "v=2"), ("os=mac", "v=3"), ("gpu", "os=mac", "v=1")]
AGENTS = [AgentId(f"a{n}") for n in range(5)]
TASKS = [TaskId(f"t{n}") for n in range(12)]

CHANGE = st.one_of(
    st.tuples(
        st.just("submit"),
        st.sampled_from(TASKS),
        st.integers(0, len(NEEDS) - 1),
        st.tuples(st.sampled_from([0, 1, 1, 1]), st.integers(0, 6).map(float)),
    ),
    st.tuples(st.just("withdraw"), st.sampled_from(TASKS), st.just(0), st.just((0, 0.0))),
    st.tuples(
        st.just("free"),
        st.sampled_from(AGENTS),
        st.integers(0, len(OFFERS) - 1),
        st.tuples(st.integers(0, 2), st.just(0.0)),
    ),
    st.tuples(st.just("forget"), st.sampled_from(AGENTS), st.just(0), st.just((0, 0.0))),
)
Change = tuple[str, TaskId | AgentId, int, tuple[int, float]]


class Oracle:
    """Every question answered by looking at everything."""

    def __init__(self) -> None:
        self.tasks: dict[TaskId, tuple[Rank, int]] = {}
        self.agents: dict[AgentId, tuple[int, int, int]] = {}

    def runs(self, need: int, offer: int) -> bool:
        offers = canonical_capabilities(OFFERS[offer])
        return all(satisfies(offers, one) for one in canonical(NEEDS[need]))

    def task_for(self, agent_id: AgentId, allowed: Callable[[TaskId], bool]) -> TaskId | None:
        _, offer, slots = self.agents.get(agent_id, (0, 0, 0))
        suits = [
            (rank, task_id)
            for task_id, (rank, need) in self.tasks.items()
            if slots and self.runs(need, offer) and allowed(task_id)
        ]
        return min(suits)[1] if suits else None

    def agent_for(self, need: int, allowed: Callable[[AgentId], bool]) -> AgentId | None:
        suits = [
            (stamp, agent_id)
            for agent_id, (stamp, offer, slots) in self.agents.items()
            if slots and self.runs(need, offer) and allowed(agent_id)
        ]
        return min(suits)[1] if suits else None


class Matching(RuleBasedStateMachine):
    """Random histories, with roll-backs, compared with the oracle after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.matcher = self.fleet.matcher
        self.shapes = [self.fleet.shape(*needs) for needs in NEEDS]
        self.classes = [self.fleet.klass(*offers) for offers in OFFERS]
        self.oracle = Oracle()
        self.seq = count()
        self.last_seq = 0

    def apply(self, change: Change) -> Callable[[], object]:
        """Change the matcher alone, and return what undoes it."""
        what, name, kind, (number, tag) = change
        matcher, task_id, agent_id = self.matcher, TaskId(name), AgentId(name)
        if what == "submit":
            if matcher.is_queued(task_id):
                return lambda: None
            self.last_seq = next(self.seq)
            matcher.enqueue(task_id, self.shapes[kind], (number, tag, self.last_seq))
            return lambda: matcher.withdraw(task_id)
        if what == "withdraw":
            entry = matcher.withdraw(task_id)
            return lambda: None if entry is None else matcher.requeue(entry)
        if what == "free":
            old = matcher.set_free(agent_id, self.classes[kind], number)
        else:
            old = matcher.forget_agent(agent_id)
        return lambda: matcher.restore_agent(agent_id, old)

    @rule(change=CHANGE)
    def something_happens(self, change: Change) -> None:
        what, name, kind, (number, tag) = change
        task_id, agent_id = TaskId(name), AgentId(name)
        self.apply(change)
        if what == "submit" and task_id not in self.oracle.tasks:
            self.oracle.tasks[task_id] = ((number, tag, self.last_seq), kind)
        elif what == "withdraw":
            self.oracle.tasks.pop(task_id, None)
        elif what == "free":
            old = self.oracle.agents.get(agent_id)
            if old is None or old[1:] != (kind, number):
                self.oracle.agents[agent_id] = (next(self.seq), kind, number)
        elif what == "forget":
            self.oracle.agents.pop(agent_id, None)

    @rule(changes=st.lists(CHANGE, max_size=12))
    def a_plan_is_discarded(self, changes: list[Change]) -> None:
        undo = [self.apply(change) for change in changes]
        for step in reversed(undo):
            step()

    @rule()
    def the_fleet_is_filled(self) -> None:
        for agent_id in AGENTS:
            while (task_id := pick(self.matcher, agent_id)) is not None:
                _, offer, slots = self.oracle.agents[agent_id]
                assert task_id == self.oracle.task_for(agent_id, lambda _: True)
                self.matcher.withdraw(task_id)
                del self.oracle.tasks[task_id]
                self.matcher.set_free(agent_id, self.classes[offer], slots - 1)
                self.oracle.agents[agent_id] = (next(self.seq), offer, slots - 1)

        for agent_id in AGENTS:
            assert self.oracle.task_for(agent_id, lambda _: True) is None

    @rule(vetoed=st.sets(st.sampled_from(TASKS)), barred=st.sets(st.sampled_from(AGENTS)))
    def vetoes_are_respected(self, vetoed: set[TaskId], barred: set[AgentId]) -> None:
        for agent_id in AGENTS:
            picked = pick(self.matcher, agent_id, lambda t: t not in vetoed)
            assert picked == self.oracle.task_for(agent_id, lambda t: t not in vetoed)
        for need, shape in enumerate(self.shapes):
            chosen = self.matcher.pick_agent(shape, lambda a: a not in barred)
            assert chosen == self.oracle.agent_for(need, lambda a: a not in barred)

    @invariant()
    def every_pick_is_the_oracles(self) -> None:
        assert self.matcher.depth() == len(self.oracle.tasks)
        for agent_id in AGENTS:
            expected = self.oracle.task_for(agent_id, lambda _: True)
            assert pick(self.matcher, agent_id) == expected
        for need, shape in enumerate(self.shapes):
            expected_agent = self.oracle.agent_for(need, lambda _: True)
            assert self.matcher.pick_agent(shape) == expected_agent


TestMatching = Matching.TestCase
TestMatching.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
