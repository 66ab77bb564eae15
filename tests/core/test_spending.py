"""Turns become rows, once each, whoever reports them when."""

from typing import Any

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.core.prices import Price, Prices
from agentcom.model.batch import Table, usage_key
from agentcom.model.ids import AgentId, Fence, MachineId, TaskId
from agentcom.model.limits import MODEL_CHARS, ORPHANS_MAX, TOKENS_MAX, TURNS_MAX
from agentcom.model.result import ReportKind
from agentcom.model.task import TaskState
from agentcom.model.usage import DAY_MS, TurnUsage, Usage
from agentcom.testing.world import agent, machine, person, stale
from tests.core.acts import LOST_MS, Pool, done, failed


def spent(turn: int = 1, **fields: Any) -> TurnUsage:
    tokens = {"model": "m", "runtime": "claude", "input": 100, "output": 10, "wall_ms": 5, **fields}
    return TurnUsage(turn=turn, agent=tokens.pop("agent", AgentId("m1")), **tokens)


def rows(pool: Pool) -> list[Usage]:
    return [row for row in pool.rows.values() if isinstance(row, Usage)]


def use(pool: Pool, task: TaskId, *turns: TurnUsage, fence: Fence | None = None) -> None:
    row = pool.task(task)
    body = facts.Used(task, fence or row.fence, turns or (spent(),))
    pool.tell(body, machine(row.machine or ""))


def test_a_turn_becomes_a_row_with_its_price() -> None:
    pool = Pool()
    pool.view.prices = Prices({"m": Price(input=1_000_000, output=2_000_000)})
    task = pool.running()

    use(pool, task, spent(cached=20, written=30))

    fence = pool.task(task).fence
    assert pool.rows[Table.USAGE, usage_key(task, fence, 1)] == Usage(
        task=task,
        fence=fence,
        turn=1,
        project=pool.task(task).project,
        submitter=pool.task(task).submitter,
        agent=AgentId("m1"),
        model="m",
        runtime="claude",
        input=100,
        cached=20,
        written=30,
        output=10,
        cost_micros=120,
        wall_ms=5,
        at=pool.now.wall,
        day=pool.now.wall // DAY_MS,
    )
    ack = pool.acks(task)[-1]
    assert (ack.of, ack.turn, ack.applied) == (ReportKind.USAGE, 1, True)


def test_a_turn_of_an_unknown_model_is_unpriced_and_one_of_a_subscription_is_included() -> None:
    pool = Pool()
    pool.view.prices = Prices({"m": Price(input=1, output=1)})
    task = pool.running()

    use(pool, task, spent(1, model="new"), spent(2, included=True))

    shown = [(row.cost_micros, row.unpriced, row.included) for row in rows(pool)]
    assert shown == [(None, True, False), (None, False, True)]


def test_a_turn_that_comes_again_counts_once() -> None:
    pool = Pool()
    task = pool.running()

    use(pool, task, spent(1))
    use(pool, task, spent(1), spent(2))
    fence, who = pool.task(task).fence, machine("m1")
    again = Fact(body=facts.Used(task, fence, (spent(2), spent(3))), actor=who)
    pool.decide([again, again])

    assert [row.turn for row in rows(pool)] == [1, 2, 3]
    assert pool.acks(task)[-1].turn == 3


def test_a_result_brings_the_turns_that_were_not_counted() -> None:
    pool = Pool()
    task = pool.running()
    use(pool, task, spent(1))
    fence = pool.task(task).fence

    pool.tell(facts.Finished(task, fence, done(), (spent(1), spent(2))), machine("m1"))

    assert pool.task(task).state is TaskState.COMPLETED
    assert [(row.turn, row.late) for row in rows(pool)] == [(1, False), (2, False)]


def test_a_turn_in_the_same_batch_as_the_end_of_its_task_counts() -> None:
    pool = Pool()
    task = pool.running()
    fence, who = pool.task(task).fence, machine("m1")
    end = Fact(body=facts.Finished(task, fence, done()), actor=who)
    use_it = Fact(body=facts.Used(task, fence, (spent(),)), actor=who)

    pool.decide([end, use_it])

    assert [row.late for row in rows(pool)] == [False]
    assert rows(pool)[0].submitter == "ann"


def test_a_stopped_attempt_brings_what_it_spent() -> None:
    pool = Pool()
    task = pool.running()
    pool.ask(facts.Cancel(task))

    pool.tell(facts.Stopped(task, pool.task(task).fence, None, (spent(),)), machine("m1"))

    assert pool.task(task).state is TaskState.CANCELLED
    assert len(rows(pool)) == 1


def test_a_turn_of_an_older_attempt_is_money_spent_and_marked_late() -> None:
    pool = Pool()
    task = pool.running()
    old = pool.task(task).fence
    pool.vanish("m1")
    pool.machine("m2")
    pool.accept(task)
    assert pool.task(task).machine == "m2"

    pool.tell(facts.Used(task, old, (spent(),)), machine("m1"))
    pool.tell(facts.Finished(task, old, done(), (spent(2),)), machine("m1"))
    use(pool, task, spent(1, agent=AgentId("m2")))

    assert [(row.fence, row.agent, row.late) for row in rows(pool)] == [
        (old, "m1", True),
        (old, "m1", True),
        (pool.task(task).fence, "m2", False),
    ]


def test_an_attempt_that_may_come_back_is_not_late() -> None:
    pool = Pool()
    task = pool.running()
    pool.vanish("m1")
    assert pool.task(task).lost

    use(pool, task)

    assert [row.late for row in rows(pool)] == [False]


def test_a_refused_report_counts_nothing() -> None:
    pool = Pool()
    task = pool.running()
    fence = pool.task(task).fence
    pool.machine("m2")

    for body, who in (
        (facts.Used(task, fence, (spent(),)), machine("m2")),
        (facts.Used(task, stale(fence), (spent(),)), machine("m1")),
        (facts.Used(task, Fence(fence.incarnation, 99), (spent(),)), machine("m1")),
        (facts.Used(TaskId("no\0ne"), fence, (spent(),)), machine("m1")),
        (facts.Used(task, fence, (spent(),)), person("ann")),
    ):
        pool.tell(body, who)

    assert rows(pool) == []


def test_a_turn_counts_for_the_account_of_its_agent() -> None:
    pool = Pool()
    pool.machine("m1", agent("m1", account="acme:ann"))
    task = pool.running()

    use(pool, task, spent(1), spent(2, agent=AgentId("ghost")))

    assert [row.account for row in rows(pool)] == ["acme:ann", None]


def test_an_agent_of_another_machine_is_not_believed() -> None:
    pool = Pool()
    task = pool.running()
    pool.machine("m2")

    use(pool, task, spent(1, agent=AgentId("m2")), spent(2, agent=AgentId("ghost")))

    assert [row.agent for row in rows(pool)] == ["", ""]


def test_turns_of_a_task_that_this_hub_does_not_know_count_for_the_machines_project() -> None:
    pool = Pool()
    who = pool.machine("m1")

    pool.tell(facts.Stopped(TaskId("lost"), Fence(3, 1), None, (spent(),)), who)

    assert [(row.project, row.submitter, row.late) for row in rows(pool)] == [
        (who.project, "", True)
    ]


def test_a_machine_cannot_make_up_tasks_without_end() -> None:
    pool = Pool()
    who = pool.machine("m1")
    pool.view.orphans[MachineId("m1")] = ORPHANS_MAX

    pool.tell(facts.Used(TaskId("lost"), Fence(3, 1), (spent(),)), who)

    assert rows(pool) == []


def test_figures_stay_within_their_bounds() -> None:
    pool = Pool()
    task = pool.running()

    wild = spent(
        input=-5, cached=1 << 62, output=-1, wall_ms=-3, model="x\n" * MODEL_CHARS, runtime="\0"
    )
    use(pool, task, wild)

    (row,) = rows(pool)
    assert (row.input, row.cached, row.output, row.wall_ms) == (TOKENS_MAX, TOKENS_MAX, 0, 0)
    assert (row.model, row.runtime) == ("x" * (MODEL_CHARS // 2), "")


def test_one_report_brings_so_many_turns() -> None:
    pool = Pool()
    task = pool.running()

    use(pool, task, *[spent(n) for n in range(1, TURNS_MAX + 2)])

    assert len(rows(pool)) == TURNS_MAX


def test_a_report_without_turns_is_answered() -> None:
    pool = Pool()
    task = pool.running()

    pool.tell(facts.Used(task, pool.task(task).fence, ()), machine("m1"))

    assert pool.acks(task)[-1].turn == 0


def test_a_failed_attempt_and_the_next_one_count_both() -> None:
    pool = Pool()
    task = pool.running()
    first = pool.task(task).fence
    pool.tell(facts.Finished(task, first, failed(), (spent(),)), machine("m1"))
    pool.advance(LOST_MS)
    pool.accept(task)

    use(pool, task)

    assert [(row.fence.attempt, row.late) for row in rows(pool)] == [(1, False), (2, False)]
