"""Budgets hold: what is spent beyond a limit is one turn of each attempt that was running."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcom.core import budgets, facts
from agentcom.core.effects import SetTimer
from agentcom.core.prices import Price, Prices
from agentcom.model.batch import Table
from agentcom.model.budget import Amounts, Budget, Period, ScopeBudget
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.ids import AgentId, MachineId, TaskId, UserId
from agentcom.model.limit import Limit
from agentcom.model.limits import BUDGETS_MAX, TURN_TOKENS
from agentcom.model.task import LandPolicy, TaskSpec, TaskState
from agentcom.model.usage import DAY_MS, TurnUsage
from agentcom.testing.world import World, agent, machine
from tests.core.acts import KEY, LOST_MS, Pool, failed, report
from tests.core.budget_acts import (
    ANN,
    DAY,
    TOTAL,
    asked_to_stop,
    budget,
    give,
    spend,
    states,
    two_slots,
    why,
)


def test_without_a_budget_nothing_is_looked_at() -> None:
    pool = Pool()
    task = pool.running()

    assert pool.view.purse.scopes(pool.task(task)) == ()
    assert asked_to_stop(spend(pool, task)) == []
    assert budgets.timers(pool.view, pool.now) == []


def test_a_task_spends_from_its_projects_and_its_submitters_budgets() -> None:
    pool = Pool()
    keys = [give(pool, scope, turns=9) for scope in ("project:default", ANN, "agent:m1")]
    give(pool, "submitter:bob", turns=9)
    task = pool.running()

    assert pool.view.purse.scopes(pool.task(task)) == (keys[0], keys[1])
    assert pool.view.purse.reserved == dict.fromkeys(keys, 1)


def test_a_command_and_a_landing_spend_nothing() -> None:
    pool = Pool()
    give(pool, turns=1)
    two_slots(pool)
    (command,) = pool.submit(TaskSpec(title="c", command=("true",)))

    assert pool.task(command).state is TaskState.ASSIGNED
    assert pool.view.purse.reserved == {}


def test_what_is_spent_is_settled_in_every_amount() -> None:
    pool = Pool()
    pool.view.prices = Prices({"m": Price(input=1_000_000, output=1_000_000)})
    key = give(pool, turns=9)
    task = pool.running()

    spend(pool, task)

    assert budget(pool, key).spent == Amounts(100, 100, 1_000, 1)
    assert pool.task(task).spent == Amounts(100, 100, 1_000, 1)


def test_a_turn_that_comes_twice_is_settled_once() -> None:
    pool = Pool()
    key = give(pool, turns=9)
    task = pool.running()

    spend(pool, task, 1)
    spend(pool, task, 1)

    assert budget(pool, key).spent.turns == 1


def test_an_attempt_reserves_a_turn_until_it_ends() -> None:
    pool = Pool()
    key = give(pool, tokens=TURN_TOKENS + 1)
    two_slots(pool)

    first, second, third = pool.submit("a", "b", "c")

    assert states(pool, (first, second, third)) == [
        TaskState.ASSIGNED,
        TaskState.ASSIGNED,
        TaskState.QUEUED,
    ]
    pool.machine("m2")
    assert pool.task(third).state is TaskState.QUEUED
    said = why(pool, third)
    assert said.summary == (
        "the budget of submitter:ann in all is reserved for 2 running attempts:"
        " 400,000 of 200,001 tokens"
    )
    assert (said.next_at, said.next_action) == (
        None,
        "it starts after one of them has ended, if something is left",
    )
    pool.accept(first)
    pool.finish(first)
    assert pool.task(third).state is TaskState.ASSIGNED
    assert pool.view.purse.reserved[key] == 2


def test_a_scope_with_nothing_left_gives_no_attempt_until_it_is_raised() -> None:
    pool = Pool()
    give(pool, turns=1)
    task = pool.running()
    spend(pool, task)
    pool.finish(task)

    (late,) = pool.submit("late")

    assert pool.task(late).state is TaskState.QUEUED
    said = why(pool, late)
    assert said.summary == "the budget of submitter:ann in all is used up: 1 of 1 turns"
    assert said.next_action == "this does not pass by itself: raise it: agentcom budget set"
    assert said.agents == ()
    give(pool, turns=2)
    assert pool.task(late).state is TaskState.ASSIGNED


def test_others_go_on_past_those_who_wait_for_a_budget() -> None:
    pool = Pool()
    give(pool, turns=1)
    task = pool.running()
    spend(pool, task)
    pool.finish(task)

    (waits,) = pool.submit("waits", by="ann")
    (goes,) = pool.submit("goes", by="bob")

    assert states(pool, (waits, goes)) == [TaskState.QUEUED, TaskState.ASSIGNED]


def test_a_budget_by_the_day_is_renewed_at_midnight_utc() -> None:
    pool = Pool()
    key = give(pool, per=DAY, turns=1)
    task = pool.running()
    spend(pool, task)
    pool.finish(task)
    (late,) = pool.submit("late")
    midnight = (pool.now.wall // DAY_MS + 1) * DAY_MS

    said = why(pool, late)
    assert (said.next_at, pool.task(late).state) == (midnight, TaskState.QUEUED)
    assert said.next_action == "the budget is renewed then; or raise it: agentcom budget set"
    pool.restart()
    pool.machine("m1")
    assert pool.task(late).state is TaskState.QUEUED
    for _ in range(100):
        pool.advance(15_000)
        pool.beat("m1")
    pool.advance(midnight - pool.now.wall - 1)
    pool.machine("m1")
    assert pool.task(late).state is TaskState.QUEUED
    pool.advance(1)
    pool.machine("m1")

    assert pool.task(late).state is TaskState.ASSIGNED
    assert budget(pool, key).spent == Amounts()
    assert budget(pool, key).day == midnight // DAY_MS


def test_a_timer_that_comes_early_changes_nothing_and_comes_again() -> None:
    pool = Pool()
    key = give(pool, per=DAY, turns=1)

    effects = pool.tell(facts.BudgetsRenewed())

    assert budget(pool, key).version == 1
    assert [one.key for one in effects if isinstance(one, SetTimer)] == ["budgets"]


def test_the_first_turn_of_a_day_begins_it_though_the_timer_is_late() -> None:
    pool = Pool()
    key = give(pool, per=DAY, turns=1)
    task = pool.running()
    (waits,) = pool.submit("waits")
    spend(pool, task)
    pool.now_ms += DAY_MS

    spend(pool, task, 2)

    assert budget(pool, key).spent.turns == 1
    assert pool.task(waits).state is TaskState.QUEUED


def test_a_lost_attempt_comes_back_to_its_reservation() -> None:
    pool = Pool()
    key = give(pool, turns=1)
    task = pool.running()
    pool.vanish("m1")
    assert (pool.task(task).state, pool.view.purse.reserved[key]) == (TaskState.QUEUED, 0)

    effects = spend(pool, task)

    kinds = [append.record.kind for append in pool.feed][-4:]
    assert kinds == ["charged", "resumed", "stop_asked", "returned"]  # its lease is over still
    assert asked_to_stop(effects) == [task]
    assert pool.view.purse.reserved[key] == 0


def test_a_late_turn_is_spent_from_the_budgets_too() -> None:
    pool = Pool()
    key = give(pool, turns=3)
    task = pool.running(budget=Budget(turns=2))
    old = pool.task(task).fence
    pool.vanish("m1")
    pool.machine("m2")
    pool.accept(task)

    for turn in (1, 2):
        spent = TurnUsage(turn=turn, agent=AgentId("m1"), output=1)
        pool.tell(facts.Used(task, old, (spent,)), machine("m1"))
    assert pool.task(task).stop_reason is None

    assert asked_to_stop(spend(pool, task)) == [task]
    assert budget(pool, key).spent.turns == 3


def test_a_refused_change_and_an_unwritten_batch_leave_budgets_as_they_were() -> None:
    pool = Pool()
    key = give(pool, turns=3)
    task = pool.running()
    row = pool.task(task)
    spent = TurnUsage(turn=1, agent=AgentId("m1"), output=1)
    fact = facts.Fact(body=facts.Used(task, row.fence, (spent,)), actor=machine("m1"))

    pool.decide([fact], commit=False)

    assert pool.view.purse.budgets[key].spent == Amounts()
    assert pool.view.purse.reserved == {key: 1}


def test_budgets_are_there_after_a_restart() -> None:
    pool = Pool()
    key = give(pool, turns=3)
    give(pool, "agent:m1", tokens=TURN_TOKENS)
    task = pool.running()
    spend(pool, task)

    pool.restart()

    assert pool.view.purse.budgets[key].spent.turns == 1
    assert pool.view.purse.reserved[key] == 1
    assert list(pool.view.purse.shut) == ["m1"]


def test_a_budget_is_changed_and_removed_and_its_spending_stays_with_it() -> None:
    pool = Pool()
    key = give(pool, turns=1)
    task = pool.running()
    spend(pool, task)
    pool.finish(task)
    (waits,) = pool.submit("waits")

    give(pool, tokens=50)
    assert (budget(pool, key).spent.turns, pool.task(waits).state) == (1, TaskState.QUEUED)

    pool.ask(facts.SetBudget(ANN, TOTAL, None))
    assert (Table.BUDGET, key) not in pool.rows
    assert pool.task(waits).state is TaskState.ASSIGNED
    assert pool.view.purse.reserved == {}


def test_a_budget_that_is_set_while_attempts_run_counts_them() -> None:
    pool = Pool()
    two_slots(pool)
    pool.submit("a", "b")

    key = give(pool, turns=2)

    assert pool.view.purse.reserved[key] == 2
    pool.ask(facts.SetBudget(ANN, TOTAL, None))
    give(pool, turns=3)
    assert pool.view.purse.reserved[key] == 2


@pytest.mark.parametrize(
    ("scope", "limits", "error"),
    [
        ("ann", Budget(turns=1), InvalidInput),
        ("team:x", Budget(turns=1), InvalidInput),
        ("agent:", Budget(turns=1), InvalidInput),
        ("agent:a/b", Budget(turns=1), InvalidInput),
        ("agent:a\n", Budget(turns=1), InvalidInput),
        ("agent:" + "a" * 64, Budget(turns=1), InvalidInput),
        (ANN, Budget(turns=0), InvalidInput),
        (ANN, Budget(), InvalidInput),
        ("project:other", Budget(turns=1), NotFound),
        (ANN, None, NotFound),
    ],
)
def test_a_budget_that_cannot_be_is_refused(
    scope: str, limits: Budget | None, error: type[Exception]
) -> None:
    pool = Pool()

    with pytest.raises(error):
        pool.ask(facts.SetBudget(scope, TOTAL, limits))

    assert pool.view.purse.budgets == {}


def test_there_are_so_many_budgets() -> None:
    pool = World()
    row = ScopeBudget(project=pool.machine("m").project, scope="x", period=TOTAL, limits=Budget())
    for number in range(BUDGETS_MAX):
        pool.view.purse.budgets[str(number)] = row

    with pytest.raises(InvalidInput, match="at most 1000 budgets"):
        pool.ask(facts.SetBudget(ANN, TOTAL, Budget(turns=1)))


def test_who_sees_their_own_sees_their_own_budget_and_the_projects() -> None:
    pool = Pool()
    keys = [give(pool, scope, turns=1) for scope in ("project:default", ANN, "agent:m1")]

    shown = [budgets.readable(pool.view.purse.budgets[key], UserId("ann")) for key in keys]

    assert shown == [True, True, False]
    assert not budgets.readable(pool.view.purse.budgets[keys[1]], UserId("bob"))


def test_an_agent_that_left_the_fleet_spends_too() -> None:
    pool = Pool()
    key = give(pool, "agent:gone", turns=1)
    task = pool.running()

    spend(pool, task)

    assert budget(pool, key).spent == Amounts()


TURNS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 3 * TURN_TOKENS), st.booleans()), max_size=40
)


@settings(max_examples=60, deadline=None)
@given(turns=TURNS, limit=st.integers(1, 4 * TURN_TOKENS), per=st.sampled_from(Period))
def test_beyond_a_limit_is_one_turn_of_each_attempt_that_was_running(
    turns: list[tuple[int, int, bool]], limit: int, per: Period
) -> None:
    pool = Pool()
    key = give(pool, per=per, tokens=limit)
    for name in ("m1", "m2", "m3", "m4"):
        pool.machine(name)
    numbers, largest = itertools.count(1), [0, 0, 0, 0]
    for at, tokens, ends in turns:
        pool.submit("more")
        task = _held_by(pool, at)
        if task is None:
            continue
        pool.accept(task)
        effects = spend(pool, task, next(numbers), input=tokens, output=0)
        largest[at] = max(largest[at], tokens)
        if asked_to_stop(effects) or ends:
            row = pool.task(task)
            pool.tell(facts.Stopped(task, row.fence), machine(row.machine or ""))
        assert budget(pool, key).spent.tokens < limit + sum(largest)
        _no_attempt_begins_with_nothing_left(pool, key, limit)
    pool.advance(LOST_MS)


def _held_by(pool: Pool, at: int) -> TaskId | None:
    held = pool.view.held_by.get(MachineId(f"m{at + 1}"), {})
    return next(iter(held), None)


def _no_attempt_begins_with_nothing_left(pool: Pool, key: str, limit: int) -> None:
    if budget(pool, key).spent.tokens >= limit:
        before = len(pool.pushed())
        pool.submit("one more")
        assert len(pool.pushed()) == before


def test_work_that_is_adopted_waits_for_no_budget() -> None:
    pool = Pool()
    pool.machine("m1", agent("m1", slots=2))
    task = pool.running()
    fence = pool.task(task).fence
    kept = failed(commit="c" * 40, branch="work", report=report(), land=LandPolicy.MERGE)
    pool.finish(task, msgspec.structs.replace(kept, land_key=KEY))
    give(pool, turns=1)
    pool.running("other")
    pool.ask(facts.Retry(task))
    assert (pool.task(task).state, why(pool, task).position) == (TaskState.QUEUED, 1)

    pool.ask(facts.Adopt(task, fence, MachineId("m1")))

    assert pool.pushed(task)[-1].landing_only


def test_tasks_that_were_queued_before_a_budget_stand_behind_it_and_leave_it_with_it() -> None:
    pool = Pool()
    pool.machine("m1", agent("m1", slots=1))
    pool.running("first")
    waiting = pool.submit("a", "b", "c")
    give(pool, turns=1)
    pool.machine("m2", agent("m2", slots=3))
    assert states(pool, waiting) == [TaskState.QUEUED] * 3
    assert all(task in pool.view.lanes for task in waiting[:1])

    pool.ask(facts.SetBudget(ANN, TOTAL, None))

    assert states(pool, waiting) == [TaskState.ASSIGNED] * 3


def test_a_limit_and_a_budget_hold_together() -> None:
    pool = Pool()
    pool.machine("m1", agent("m1", slots=4))
    pool.ask(facts.SetLimit(Limit(scope=ANN, concurrency=2)))
    key = give(pool, turns=1)
    first, second, third = pool.submit("a", "b", "c")
    assert states(pool, (first, second, third)) == [TaskState.ASSIGNED, *[TaskState.QUEUED] * 2]
    assert "reserved for 1 running" in why(pool, second).summary

    pool.ask(facts.SetBudget(ANN, TOTAL, Budget(turns=9)))

    assert states(pool, (second, third)) == [TaskState.ASSIGNED, TaskState.QUEUED]
    assert why(pool, third).summary == f"the limit of {ANN} is full: 2 of 2 run"
    assert pool.view.purse.reserved[key] == 2
