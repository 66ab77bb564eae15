"""Facts in, a plan out: what one batch is, and what a start finds."""

from typing import get_args

import pytest

from agentcom.core import facts, loading, pool
from agentcom.core.effects import Answer, Continue, Refuse
from agentcom.core.facts import Fact
from agentcom.model.batch import Table
from agentcom.model.graph import Dependency
from agentcom.model.hold import Hold
from agentcom.model.ids import AgentId, Fence, MachineId, TaskId, WallTime
from agentcom.model.snapshot import Snapshot
from agentcom.model.task import Phase, TaskSpec, TaskState
from agentcom.model.todo import Todo, TodoKind
from agentcom.testing.world import machine, person
from tests.core.acts import KEY, Pool, done

ONE = facts.Submit((TaskSpec(title="one", prompt="p"),))
TWO = facts.Submit((TaskSpec(title="two", prompt="p"),))


def request(body: facts.Body, ticket: int, *, key: str = "k", by: str = "ann") -> Fact:
    return Fact(body=body, actor=person(by), reply_to=ticket, key=key, payload=repr(body))


def test_the_answer_comes_before_the_push_that_follows_from_it() -> None:
    world = Pool()
    world.machine("m1")

    effects = world.decide([Fact(body=ONE, actor=person("ann"), reply_to=5)])

    names = [type(effect).__name__ for effect in effects]
    assert names.index("Answer") < names.index("Push")


def test_one_refused_fact_leaves_the_others_of_its_batch_alone() -> None:
    world = Pool()
    bad = facts.Cancel(TaskId("none"))
    facts_ = [
        Fact(body=ONE, actor=person("ann"), reply_to=1),
        Fact(body=bad, actor=person("ann"), reply_to=2),
        Fact(body=bad, actor=person("ann")),
        Fact(body=TWO, actor=person("ann"), reply_to=3),
    ]

    effects = world.decide(facts_)

    answered = [e.ticket for e in effects if isinstance(e, Answer)]
    assert (answered, [e.ticket for e in effects if isinstance(e, Refuse)]) == ([1, 3], [2])
    assert len(world.view.tasks) == 2


def test_a_batch_that_found_no_room_leaves_the_view_as_it_was() -> None:
    world = Pool()
    task = world.running()
    before = world.task(task)
    report = facts.Finished(task, before.fence, done())

    world.decide([Fact(body=report, actor=machine("m1")), Fact(body=ONE)], commit=False)
    world.decide([Fact(body=report, actor=machine("m1")), Fact(body=ONE)])

    assert world.task(task).state is TaskState.COMPLETED


def test_a_fact_about_a_task_that_ended_in_its_batch_waits_for_the_next() -> None:
    world = Pool()
    task = world.running()
    report = Fact(body=facts.Finished(task, world.task(task).fence, done()), actor=machine("m1"))
    why = Fact(body=facts.Explain(task), actor=person("ann"), reply_to=1)

    plan = pool.decide(world.view, [report, why], now=world.now, ids=world.ids, rng=world.rng)

    assert list(plan.deferred) == [why]


def test_timers_and_cascades_are_rebuilt_from_the_rows() -> None:
    world = Pool()
    todo = Todo(kind=TodoKind.RELEASE_DEPENDANTS, task=TaskId("t"))

    view, effects = loading.load(Snapshot(todos=[todo]), incarnation=8, term=3, now=world.now)

    assert effects == [Continue(facts.TodoDue(TaskId("t"), TodoKind.RELEASE_DEPENDANTS))]
    assert (view.incarnation, view.term, view.todos) == (8, 3, {TaskId("t"): todo})


def test_everything_live_survives_a_restart() -> None:
    world = Pool()
    world.machine("m1")
    landing = [world.landing() for _ in range(3)]
    running = world.running(unique_key="u")
    world.submit(
        TaskSpec(title="q", prompt="p", emergency=True),
        TaskSpec(title="d", prompt="p", depends_on=(Dependency(running),)),
    )
    old = world.view

    world.restart()

    new = world.view
    for name in ("tasks", "edges", "holds", "landing", "agents", "unique", "seq", "held_by"):
        assert getattr(new, name) == getattr(old, name), name
    assert {a: n for a, n in old.slots_used.items() if n} == new.slots_used
    assert new.dependants == {k: v for k, v in old.dependants.items() if v}
    assert new.landing == {KEY: tuple(landing)}
    assert all(world.task(task).phase is Phase.LANDING for task in landing)


def test_tasks_that_never_stood_in_the_queue_do_not_move_virtual_time_at_a_start() -> None:
    world = Pool()
    world.submit(
        TaskSpec(
            title="later", prompt="p", priority=-10, not_before=WallTime(world.now.wall + 9_000)
        ),
        TaskSpec(title="urgent", prompt="p", priority=-10, emergency=True),
        "next",
    )

    world.restart()

    assert world.view.fairness.virtual_time == 1.0  # the start tag of what waits first


@pytest.mark.parametrize(
    ("body", "tables"),
    [
        (facts.Cancel(TaskId("x")), ["task"]),
        (facts.Retry(TaskId("x")), ["task", "body"]),
        (facts.Adopt(TaskId("x"), Fence(7, 1), MachineId("m1")), ["task", "body", "result"]),
        (facts.Finished(TaskId("x"), Fence(7, 1), done()), ["result", "task"]),
        (facts.LeaseChecked(MachineId("m1")), []),
        (ONE, []),
    ],
)
def test_a_fact_names_the_rows_that_it_needs(body: facts.Body, tables: list[str]) -> None:
    world = Pool()

    keys = pool.wanted(world.view, Fact(body=body, actor=machine("m1")))

    assert [table for table, _ in keys] == tables


def test_every_kind_of_fact_is_taken_up() -> None:
    world = Pool()
    task = world.running(deadline_ms=1_000)
    fence = world.task(task).fence

    world.ask(facts.Explain(task))
    world.tell(facts.Checkpointed(task, fence, "k" * 40), machine("m1"))
    world.ask(facts.PauseAgent(AgentId("m1"), paused=True))
    world.advance(1_000)
    world.beat("m1", [world.holding(task)])

    assert world.task(task).stop_reason is not None


def test_a_start_takes_met_edges_and_other_holds_as_they_are() -> None:
    world = Pool()
    first = world.running()
    world.finish(first)
    (second,) = world.submit(
        TaskSpec(title="d", prompt="p", depends_on=(Dependency(first),)),
    )
    scope = Hold(task=second, attempt=1, key="scope:src")
    world.rows[Table.HOLD, "scope"] = scope

    world.restart()

    assert world.view.dependants == {}
    assert world.view.holds[second]["scope:src"] == scope


def test_a_refused_report_is_answered_so_that_its_machine_stops_sending_it() -> None:
    world = Pool()
    task = world.running()

    world.land(task)

    (ack,) = world.acks(task)
    assert (ack.applied, ack.code) == (False, "stale")


def test_a_retry_in_the_batch_that_ends_what_the_task_depends_on_sees_that_end() -> None:
    world = Pool()
    first = world.running()
    spec = TaskSpec(title="d", prompt="p", depends_on=(Dependency(first),))
    (second,) = world.submit(spec)
    world.ask(facts.Cancel(second))
    report = facts.Finished(first, world.task(first).fence, done())

    world.decide(
        [
            Fact(body=report, actor=machine("m1")),
            Fact(body=facts.Retry(second), actor=person("ann")),
        ]
    )

    assert world.task(second).state is TaskState.ASSIGNED


def test_every_kind_of_fact_has_its_handler() -> None:
    assert set(pool._HANDLERS) == set(get_args(facts.Body))
