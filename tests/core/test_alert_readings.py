"""What is wrong now: each rule on its own, and figures that cannot be impossible."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.core import alert_readings, facts
from agentcom.core.alert_readings import Backups, Figures, duration, is_known, look, share
from agentcom.core.alerts import Reading
from agentcom.core.view import PoolView
from agentcom.model.address import Address
from agentcom.model.agent import Account, Machine
from agentcom.model.alert import AlertRule, RuleName
from agentcom.model.alert_rules import RULES, Unit
from agentcom.model.ask import Ask, AskId
from agentcom.model.budget import Amounts, Budget, Period, ScopeBudget
from agentcom.model.ids import (
    DEFAULT_POOL,
    DEFAULT_PROJECT,
    AccountId,
    AgentId,
    Instant,
    MachineId,
    Now,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.limit import Limit
from agentcom.model.task import TaskSpec, TaskState
from agentcom.model.usage import DAY_MS
from agentcom.testing.world import World, agent

WALL = 20_000 * DAY_MS
NOW = Now(Instant(10_000_000), WallTime(WALL))
DEFAULTS = {name: one.default for name, one in RULES.items()}
MINUTE_MS = 60_000


def view() -> PoolView:
    return PoolView(DEFAULT_POOL, incarnation=1, term=1)


def found(
    name: RuleName, figures: Figures | None = None, rows: PoolView | None = None
) -> list[Reading]:
    readings = look(rows or view(), figures or Figures(), DEFAULTS, NOW)
    return [one for one in readings if one.rule is name]


def test_an_empty_hub_has_nothing_wrong() -> None:
    assert look(view(), Figures(disk_free=50, disk_size=100), DEFAULTS, NOW) == []


def test_a_rule_that_is_off_finds_nothing() -> None:
    full = Figures(disk_free=1, disk_size=100)
    off = {**DEFAULTS, RuleName.DISK_LOW: replace_rule(RuleName.DISK_LOW, enabled=False)}

    assert found(RuleName.DISK_LOW, full)
    assert look(view(), full, off, NOW) == []


def replace_rule(name: RuleName, **fields: object) -> AlertRule:
    return msgspec.structs.replace(RULES[name].default, **fields)


@pytest.mark.parametrize(
    ("completed", "failed", "value"),
    [(0, 9, None), (10, 0, None), (6, 4, None), (5, 5, 50.0), (0, 10, 100.0)],
)
def test_a_share_of_failures_counts_from_ten_tasks_on(
    completed: int, failed: int, value: float | None
) -> None:
    readings = found(RuleName.FAILURE_RATE, Figures(completed=completed, failed=failed))

    assert [one.value for one in readings] == ([] if value is None else [value])


@pytest.mark.parametrize(("free", "fires"), [(0, True), (10, True), (11, False), (100, False)])
def test_little_room_on_the_disk(free: int, fires: bool) -> None:
    assert bool(found(RuleName.DISK_LOW, Figures(disk_free=free, disk_size=100))) is fires


def test_copies_that_are_old_or_failed() -> None:
    fine = Backups(newest_at=WallTime(WALL - 47 * 60 * MINUTE_MS), failed=0, reason="")
    bad = replace(fine, newest_at=WallTime(WALL - 49 * 60 * MINUTE_MS), failed=2, reason="no room")

    assert not found(RuleName.BACKUP_STALE, Figures(backups=fine))
    assert not found(RuleName.BACKUP_FAILED, Figures(backups=fine))
    assert "2 d" in found(RuleName.BACKUP_STALE, Figures(backups=bad))[0].said
    assert "no room" in found(RuleName.BACKUP_FAILED, Figures(backups=bad))[0].said


def test_a_copy_from_the_future_is_new() -> None:
    ahead = Backups(newest_at=WallTime(WALL + DAY_MS), failed=0, reason="")

    assert not found(RuleName.BACKUP_STALE, Figures(backups=ahead))


@pytest.mark.parametrize(("step_ms", "fires"), [(0, False), (-6_000, True), (4_000, False)])
def test_a_clock_that_was_set(step_ms: int, fires: bool) -> None:
    assert bool(found(RuleName.CLOCK_STEP, Figures(step_ms=step_ms))) is fires


def test_a_hub_that_is_late() -> None:
    assert found(RuleName.HUB_OVERLOADED, Figures(late_ms=1_500, backlog=7))[0].value == 1_500
    assert not found(RuleName.HUB_OVERLOADED, Figures(late_ms=20))


def test_a_machine_that_comes_again_and_again() -> None:
    rows = view()
    for name, session in (("a", 9), ("b", 6), ("c", 99)):
        rows.machines[MachineId(name)] = Machine(
            id=MachineId(name),
            name=name,
            owner=UserId("ann"),
            created_at=WallTime(1),
            session=session,
        )
    figures = Figures(sessions_before={MachineId("a"): 4, MachineId("b"): 4})

    readings = found(RuleName.MACHINE_FLAPPING, figures, rows)

    assert [(one.subject, one.value) for one in readings] == [("a", 5)]


def budget(spent: int, *, day: int = 0, period: Period = Period.TOTAL) -> PoolView:
    rows = view()
    rows.purse.budgets["b"] = ScopeBudget(
        project=DEFAULT_PROJECT,
        scope="agent:ada",
        period=period,
        limits=Budget(tokens=1_000, turns=10),
        spent=Amounts(tokens=spent),
        day=day,
    )
    return rows


def test_a_budget_that_is_nearly_spent() -> None:
    assert not found(RuleName.BUDGET_NEAR, rows=budget(799))
    (reading,) = found(RuleName.BUDGET_NEAR, rows=budget(900))

    assert (reading.value, reading.subject) == (90.0, "default/agent:ada/total")
    assert reading.project == DEFAULT_PROJECT


def test_a_budget_by_the_day_has_nothing_spent_of_yesterday() -> None:
    assert not found(RuleName.BUDGET_NEAR, rows=budget(999, day=19_999, period=Period.DAY))
    assert found(RuleName.BUDGET_NEAR, rows=budget(999, day=20_000, period=Period.DAY))


def test_an_account_without_quota() -> None:
    rows = view()
    for name, until in (("a", WALL + DAY_MS), ("b", None)):
        rows.accounts[AccountId(name)] = Account(
            id=AccountId(name), parked_until=None if until is None else WallTime(until)
        )

    assert [one.subject for one in found(RuleName.QUOTA_OUT, rows=rows)] == ["a", "b"]


def test_many_subjects_of_a_rule_are_bounded_and_the_last_one_counts_the_rest() -> None:
    rows = view()
    for number in range(120):
        name = AccountId(f"a{number}")
        rows.accounts[name] = Account(id=name)

    readings = found(RuleName.QUOTA_OUT, rows=rows)

    assert len(readings) == alert_readings.SUBJECTS_MAX
    assert readings[-1].subject == "more"
    assert "71 more" in readings[-1].said


def test_a_question_that_nobody_answers() -> None:
    rows = view()
    for number, minutes in enumerate((5, 45, 31)):
        ask = Ask(
            id=AskId(f"q{number}"),
            asker=Address("agent:ada"),
            question="which?",
            at=WallTime(WALL - minutes * MINUTE_MS),
        )
        rows.asks[ask.id] = ask

    (reading,) = found(RuleName.ASK_UNANSWERED, rows=rows)

    assert reading.value == 45 * MINUTE_MS
    assert "q1" in reading.said
    assert "1 more" in reading.said


@pytest.mark.parametrize(
    ("name", "known"),
    [
        (RuleName.QUEUE_GROWING, False),
        (RuleName.FAILURE_RATE, False),
        (RuleName.MACHINE_FLAPPING, False),
        (RuleName.CLOCK_STEP, False),
        (RuleName.TASK_SILENT, False),
        (RuleName.BACKUP_STALE, False),
        (RuleName.DISK_LOW, False),
        (RuleName.QUOTA_OUT, True),
        (RuleName.HUB_OVERLOADED, True),
    ],
)
def test_a_hub_that_has_just_started_does_not_say_that_it_is_over(
    name: RuleName, known: bool
) -> None:
    rule = DEFAULTS[name]
    full = Figures(
        window_full=True,
        disk_size=1,
        backups=Backups(newest_at=WallTime(1), failed=0, reason=""),
    )

    assert is_known(name, rule, Figures(), 0) is known
    assert is_known(name, rule, full, 3_600_000)


@given(
    completed=st.integers(0, 10**6),
    failed=st.integers(0, 10**6),
    free=st.integers(0, 10**15),
    size=st.integers(0, 10**15),
    newest=st.integers(0, 2 * WALL),
    late=st.integers(-(10**6), 10**6),
    step=st.integers(-(10**9), 10**9),
    spent=st.integers(0, 10**6),
)
def test_no_figure_can_be_impossible(
    completed: int, failed: int, free: int, size: int, newest: int, late: int, step: int, spent: int
) -> None:
    figures = Figures(
        completed=completed,
        failed=failed,
        disk_free=free,
        disk_size=size,
        backups=Backups(newest_at=WallTime(newest), failed=failed, reason=""),
        late_ms=late,
        step_ms=step,
    )

    for reading in look(budget(spent), figures, DEFAULTS, NOW):
        definition = RULES[reading.rule]
        assert reading.value >= 0
        assert definition.breached(definition.default, reading.value)
        if definition.unit is Unit.PERCENT and reading.rule is not RuleName.BUDGET_NEAR:
            assert reading.value <= 100


def test_a_part_that_is_more_than_the_whole_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        share(3, 2)
    assert share(0, 0) == 0.0


@pytest.mark.parametrize(
    ("ms", "words"),
    [(-5, "0 s"), (90_000, "90 s"), (7_200_000, "2 h"), (172_800_000, "2 d"), (180_000, "3 min")],
)
def test_times_are_said_as_people_say_them(ms: int, words: str) -> None:
    assert duration(ms) == words


def of(world: World, name: RuleName, figures: Figures | None = None) -> list[Reading]:
    readings = look(world.view, figures or Figures(), DEFAULTS, world.now)
    return [one for one in readings if one.rule is name]


def test_a_task_that_no_connected_agent_can_run() -> None:
    world = World()
    world.machine("m1", agent("ada", "go"))
    (task,) = world.submit(TaskSpec(title="t", prompt="p", needs=("rust",)))
    world.now_ms += 6 * MINUTE_MS

    (reading,) = of(world, RuleName.UNSCHEDULABLE)

    assert task in reading.said
    assert "rust" in reading.subject
    assert not of(world, RuleName.TASK_WAITING)


def test_a_task_that_waits_for_busy_agents_is_not_stuck() -> None:
    world = World()
    world.machine("m1", "ada")
    first, second = world.submit("one", "two")
    world.accept(first)
    world.now_ms += 60 * MINUTE_MS

    assert world.task(second).state is TaskState.QUEUED
    assert not of(world, RuleName.TASK_WAITING)
    assert not of(world, RuleName.UNSCHEDULABLE)


def test_tasks_behind_a_full_limit_are_one_alert_of_the_limit() -> None:
    world = World()
    world.machine("m1", agent("ada", slots=4))
    world.ask(facts.SetLimit(Limit(scope="submitter:ann", concurrency=1)))
    running, *_ = world.submit("one", "two", "three")
    world.accept(running)
    world.now_ms += 59 * MINUTE_MS
    assert not of(world, RuleName.TASK_HELD)
    world.now_ms += 2 * MINUTE_MS

    (reading,) = of(world, RuleName.TASK_HELD)

    assert reading.subject == "submitter:ann"
    assert "the limit of submitter:ann is full: 1 of 1 run" in reading.said
    world.ask(facts.SetLimit(Limit(scope="submitter:ann", concurrency=3)))
    assert not of(world, RuleName.TASK_HELD)


def test_what_is_paused_is_held_on_purpose() -> None:
    world = World()
    world.machine("m1", agent("ada"))
    world.ask(facts.Pause(f"project:{DEFAULT_PROJECT}", True, "a freeze"))
    world.submit("one")
    world.now_ms += 120 * MINUTE_MS

    assert not of(world, RuleName.TASK_HELD)


def test_a_task_that_waits_though_an_agent_for_it_is_idle() -> None:
    world = World()
    world.machine("m1", "ada")
    first, second = world.submit("one", "two")
    world.view.note_free(AgentId("ada"), 1)  # as a defect would leave it
    world.now_ms += 16 * MINUTE_MS

    (reading,) = of(world, RuleName.TASK_WAITING)

    assert second in reading.said
    assert first not in reading.said


def test_a_queue_that_grows() -> None:
    world = World()
    world.submit(*(f"t{number}" for number in range(120)))

    assert [r.value for r in of(world, RuleName.QUEUE_GROWING, Figures(depth_before=10))] == [110]
    assert not of(world, RuleName.QUEUE_GROWING, Figures(depth_before=110))
    assert not of(world, RuleName.QUEUE_GROWING, Figures(depth_before=900))
    assert not of(world, RuleName.QUEUE_GROWING, Figures())


def test_attempts_that_tell_nothing() -> None:
    world = World()
    world.machine("m1", agent("ada", slots=2))
    first, second = world.submit("one", "two")
    wall = world.now.wall
    quiet = {first: WallTime(wall), second: WallTime(wall + MINUTE_MS), TaskId("gone"): WallTime(0)}
    world.now_ms += 32 * MINUTE_MS

    (reading,) = of(world, RuleName.TASK_SILENT, Figures(quiet_since=quiet))

    assert reading.value == 32 * MINUTE_MS
    assert first in reading.said
    assert "1 more" in reading.said


def test_an_agent_in_quarantine() -> None:
    world = World()
    world.machine("m1", "ada")
    row = world.view.agents[AgentId("ada")]
    world.view.agents[AgentId("ada")] = msgspec.structs.replace(row, quarantined="it failed")

    (reading,) = of(world, RuleName.AGENT_QUARANTINED)

    assert (reading.subject, reading.project) == ("ada", DEFAULT_PROJECT)
