"""What a budget that is used up ends, and what it lets go on."""

from agentcom.core import facts
from agentcom.model.batch import budget_key
from agentcom.model.budget import Budget
from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId
from agentcom.model.limits import TURN_COST_MICROS, TURN_TOKENS
from agentcom.model.task import Phase, StopReason, TaskState
from agentcom.model.usage import TurnUsage
from agentcom.testing.world import machine
from tests.core.acts import Pool, done, failed, merging
from tests.core.budget_acts import ANN, TOTAL, asked_to_stop, give, spend, states, two_slots, why


def test_a_running_attempt_is_asked_to_end_after_its_turn() -> None:
    pool = Pool()
    give(pool, tokens=TURN_TOKENS * 2)
    two_slots(pool)
    first, second = pool.submit("a", "b")
    pool.accept(first)
    pool.accept(second)

    assert asked_to_stop(spend(pool, first, input=TURN_TOKENS * 2)) == [first]
    assert asked_to_stop(spend(pool, second)) == [second]
    assert pool.task(first).stop_reason is StopReason.BUDGET

    pool.tell(facts.Stopped(first, pool.task(first).fence), machine("m1"))
    assert pool.task(first).state is TaskState.QUEUED
    assert "used up" in why(pool, first).summary


def test_who_is_asked_to_end_is_asked_once_and_reminded() -> None:
    pool = Pool()
    give(pool, turns=1)
    task = pool.running()
    spend(pool, task)
    version = pool.task(task).version

    again = pool.tell(facts.Accepted(task, pool.task(task).fence), machine("m1"))

    assert asked_to_stop(again) == [task]
    assert pool.task(task).version == version


def test_a_task_whose_own_budget_is_used_up_fails() -> None:
    pool = Pool()
    task = pool.running(budget=Budget(turns=2))

    assert asked_to_stop(spend(pool, task, 1)) == []
    assert asked_to_stop(spend(pool, task, 2)) == [task]
    pool.tell(facts.Stopped(task, pool.task(task).fence), machine("m1"))

    row = pool.task(task)
    assert (row.state, row.failure) == (TaskState.FAILED, FailureClass.BUDGET)
    assert row.reason == "its budget is used up: 2 of 2 turns"


def test_work_that_ends_well_counts_though_its_budget_is_used_up() -> None:
    pool = Pool()
    task = pool.running(budget=Budget(turns=1))
    spend(pool, task)

    assert pool.finish(task, done()).state is TaskState.COMPLETED


def test_work_that_fails_after_its_budget_is_not_tried_again() -> None:
    pool = Pool()
    task = pool.running(budget=Budget(turns=1))
    row = pool.task(task)
    spent = TurnUsage(turn=1, agent=AgentId("m1"), output=1)

    pool.tell(facts.Finished(task, row.fence, failed(), (spent,)), machine("m1"))

    row = pool.task(task)
    assert (row.state, row.failure) == (TaskState.FAILED, FailureClass.BUDGET)
    assert row.reason == "its budget is used up: 1 of 1 turns; it broke"


def test_a_landing_is_not_ended_for_its_budget() -> None:
    pool = Pool()
    give(pool, turns=1)
    task = pool.running()
    row = pool.task(task)
    pool.finish(task, merging())
    assert pool.view.purse.reserved[budget_key("default", ANN, TOTAL)] == 0
    spent = TurnUsage(turn=1, agent=AgentId("m1"), output=1)

    effects = pool.tell(facts.Used(task, row.fence, (spent,)), machine("m1"))

    assert asked_to_stop(effects) == []
    assert pool.task(task).phase is Phase.LANDING


def test_an_agent_whose_budget_is_used_up_takes_nothing() -> None:
    pool = Pool()
    give(pool, "agent:m1", turns=1)
    task = pool.running()
    assert asked_to_stop(spend(pool, task)) == [task]
    pool.finish(task)

    (waits,) = pool.submit("waits")

    assert pool.task(waits).state is TaskState.QUEUED
    (rule,) = why(pool, waits).agents
    assert (rule.rule, rule.detail) == (
        "budget",
        "the budget of agent:m1 in all is used up: 1 of 1 turns",
    )
    pool.machine("m2")
    assert pool.task(waits).machine == "m2"


def test_an_agents_reservations_close_it_before_its_slots_are_full() -> None:
    pool = Pool()
    give(pool, "agent:m1", tokens=TURN_TOKENS)
    two_slots(pool)

    first, second = pool.submit("a", "b")

    assert states(pool, (first, second)) == [TaskState.ASSIGNED, TaskState.QUEUED]
    pool.accept(first)
    pool.finish(first)
    assert pool.task(second).state is TaskState.ASSIGNED


def test_a_task_that_waits_for_a_budget_can_be_cancelled() -> None:
    pool = Pool()
    give(pool, cost_micros=TURN_COST_MICROS)
    pool.running()
    pool.machine("m2")
    (waits,) = pool.submit("waits")
    assert waits in pool.view.lanes

    pool.ask(facts.Cancel(waits))

    assert waits not in pool.view.lanes
