"""A quota that is used up parks its account, on all machines; one attempt tries it again."""

import pytest

from agentcom.core import accounts, deadlines, due_facts, facts
from agentcom.core.effects import SetTimer
from agentcom.core.turn import Turn
from agentcom.model.agent import Account, AgentState, Canary
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass, OnQuota
from agentcom.model.ids import AccountId, Fence, MachineId, Now, TaskId, WallTime
from agentcom.model.limits import (
    ACCOUNT_CHARS,
    QUOTA_PARK_MAX_MS,
    QUOTA_RETRY_MAX_MS,
    QUOTA_RETRY_MS,
    RETRY_BASE_MS,
)
from agentcom.model.replies import Welcomed
from agentcom.model.result import LandStatus, Result
from agentcom.model.task import Phase, TaskSpec, TaskState, Wait
from agentcom.testing.world import agent, machine
from tests.core.acts import LOST_MS, Pool, done, failed, merging
from tests.core.quota_acts import (
    ANN,
    HOUR_MS,
    account,
    canary_of,
    fleet,
    held,
    later,
    parked,
    quota,
    tried,
    working,
)

# A quota that is used up --------------------------------------------------------------------------


def test_three_machines_of_one_account_park_and_one_canary_opens_it() -> None:
    world = fleet()
    world.machine("m4", agent("other", account="openai:bob"))
    world.machine("m5", agent("none"))
    tasks = [working(world, f"t{n}", on_quota=OnQuota.WAIT) for n in range(5)]

    world.finish(tasks[0], quota(world))
    world.finish(tasks[1], done())
    world.finish(tasks[2], done())
    waiting = world.submit("x", "y", "z")

    assert [t.agent for t in held(world)] == ["other", "none"]  # others work on
    states = [world.view.agent_state(a) for a in world.view.agents.values()]
    assert states[:3] == [AgentState.BLOCKED] * 3
    for name in ("other", "none"):
        world.tell(facts.DrainMachine(MachineId("m4" if name == "other" else "m5"), draining=True))
    later(world, HOUR_MS - 1)
    assert len(held(world)) == 2

    later(world, 1)

    (canary,) = [t for t in held(world) if t.agent not in ("other", "none")]
    assert account(world) == Account(
        id=ANN, canary=Canary(canary.id, canary.fence), reason="it broke", version=3
    )
    world.accept(canary.id)
    assert len(held(world)) == 3  # to accept is no sign of life
    world.tell(facts.CanaryLived(canary.id, canary.fence), machine(canary.machine or ""))
    assert account(world) is None
    assert len(held(world)) == 5
    assert [world.task(t).state for t in waiting].count(TaskState.QUEUED) == 1


def test_an_agent_without_an_account_parks_nothing() -> None:
    world = Pool()
    task = world.running()

    after = world.finish(task, quota(world, session="s1"))

    assert (after.wait, after.until) == (Wait.QUOTA, world.now.wall + HOUR_MS)
    assert after.session == "s1"
    assert not world.view.accounts


@pytest.mark.parametrize("other", [None, "openai:bob"])
def test_a_task_moves_at_once_to_an_agent_of_another_account(other: str | None) -> None:
    world = fleet("m1")
    task = working(world)
    world.machine("m2", agent("other", account=other))

    after = world.finish(task, quota(world))

    assert (after.state, after.agent, after.failures) == (TaskState.ASSIGNED, "other", 0)
    assert [e.record.kind for e in world.feed][-2:] == [EventKind.PARKED, EventKind.ASSIGNED]


@pytest.mark.parametrize("why", ["class", "absent", "removed", "account", "policy"])
def test_a_task_waits_if_nobody_else_could_run_it_or_its_policy_says_so(why: str) -> None:
    world = fleet("m1")
    needs = ("gpu",) if why == "class" else ()
    world.machine("m1", agent("a-m1", "gpu", account=ANN))
    policy = OnQuota.WAIT if why == "policy" else OnQuota.MOVE
    task = working(world, needs=needs, on_quota=policy)
    world.machine("m2", agent("other", account=ANN if why == "account" else None))
    if why == "absent":
        world.machine("m2", "third-one")
        world.machine("m2", agent("third-one", account=ANN))
    if why == "removed":
        world.ask(facts.RemoveMachine(MachineId("m2")))

    after = world.finish(task, quota(world))

    assert (after.wait, after.until) == (Wait.QUOTA, world.now.wall + HOUR_MS)


def test_the_latest_stated_reset_counts_for_a_parked_account() -> None:
    world = fleet(slots=2)
    tasks = [working(world, f"t{n}") for n in range(5)]
    start = world.now.wall

    world.finish(tasks[0], quota(world, HOUR_MS))
    world.finish(tasks[1], quota(world, 2 * HOUR_MS))
    world.finish(tasks[2], quota(world, HOUR_MS))
    world.finish(tasks[3], quota(world, None))

    row = account(world)
    assert row is not None
    assert (row.parked_until, row.strikes) == (start + 2 * HOUR_MS, 1)
    assert world.task(tasks[3]).until == row.parked_until


def test_a_reset_beyond_every_window_is_tried_earlier() -> None:
    world, _ = parked(in_ms=10 * QUOTA_PARK_MAX_MS)

    row = account(world)
    assert row is not None
    assert row.parked_until == world.now.wall + QUOTA_PARK_MAX_MS


def test_an_unknown_limit_is_tried_ever_later_up_to_a_bound() -> None:
    world, _ = parked("m1", in_ms=None)
    pauses = []

    for _ in range(6):
        row = account(world)
        assert row is not None
        assert row.parked_until is not None
        pauses.append(row.parked_until - world.now.wall)
        later(world, pauses[-1])
        (task,) = held(world)
        world.finish(task.id, quota(world, -5))

    doubled = [QUOTA_RETRY_MS << n for n in range(6)]
    assert pauses == [min(pause, QUOTA_RETRY_MAX_MS) for pause in doubled]


def test_resets_that_are_stated_too_soon_again_and_again_are_not_believed() -> None:
    world, _ = parked("m1", in_ms=10)
    pauses = []

    for _ in range(3):
        row = account(world)
        assert row is not None
        assert row.parked_until is not None
        pauses.append(row.parked_until - world.now.wall)
        later(world, pauses[-1])
        (task,) = held(world)
        world.finish(task.id, quota(world, 10))

    assert pauses == [10, 2 * RETRY_BASE_MS, 4 * RETRY_BASE_MS]


def test_an_attempt_that_was_asked_to_stop_still_tells_of_its_account() -> None:
    world = fleet()
    task = working(world)
    world.ask(facts.Cancel(task))

    world.finish(task, quota(world))

    assert world.task(task).state is TaskState.CANCELLED
    assert account(world) is not None


# The attempt that tries ---------------------------------------------------------------------------


def test_of_free_slots_the_canary_gets_one() -> None:
    world, _ = parked(slots=3)
    world.submit("a", "b", "c")

    later(world, HOUR_MS)

    assert len(held(world)) == 1


def test_the_first_task_that_comes_after_the_reset_is_the_canary() -> None:
    world, task = parked()
    world.ask(facts.Cancel(task))
    later(world, 2 * HOUR_MS)
    row = account(world)
    assert row is not None
    assert not row.closed

    world.submit("a", "b")

    (canary,) = held(world)
    row = account(world)
    assert row is not None
    assert row.canary == Canary(canary.id, canary.fence)


@pytest.mark.parametrize("result", [done(), merging(), failed(), done(needs_person=("why",))])
def test_any_other_end_of_the_canary_opens_the_account(result: Result) -> None:
    world, task = tried()
    world.accept(task.id)
    world.tell(facts.PhaseReached(task.id, task.fence, Phase.WORKING), machine(task.machine or ""))

    world.finish(task.id, result)

    assert account(world) is None
    working_now = [t for t in held(world) if t.phase is not Phase.LANDING]
    assert len(working_now) == 3


def test_a_canary_without_quota_parks_the_account_anew() -> None:
    world, task = tried()
    start = world.now.wall

    world.finish(task.id, quota(world, 5 * HOUR_MS))

    row = account(world)
    assert row is not None
    assert (row.parked_until, row.canary, row.strikes) == (start + 5 * HOUR_MS, None, 2)
    assert not held(world)


def test_if_the_canarys_machine_dies_another_one_tries() -> None:
    world, first = tried()

    later(world, LOST_MS, silent=first.machine)

    (second,) = held(world)
    assert second.machine != first.machine
    assert canary_of(world) == second.id


def test_a_canary_that_comes_back_is_the_canary_again() -> None:
    world, first = tried("m1")
    world.accept(first.id)
    world.vanish("m1")
    assert not held(world)

    world.machine("m1", agent("a-m1", account=ANN), held=[world.holding(first.id)])

    assert canary_of(world) == first.id


@pytest.mark.parametrize("how", ["declined", "stopped", "failed before it began", "timed out"])
def test_a_canary_that_never_asked_the_model_shows_nothing(how: str) -> None:
    world, task = tried()
    who = machine(task.machine or "")
    match how:
        case "declined":
            world.tell(facts.Declined(task.id, task.fence, "disk"), who)
        case "stopped":
            world.ask(facts.Cancel(task.id))
            world.tell(facts.Stopped(task.id, task.fence), who)
        case "timed out":
            world.accept(task.id)
            later(world, task.deadline_ms)
            world.tell(facts.Stopped(task.id, task.fence), who)
        case _:
            world.accept(task.id)
            world.finish(task.id, failed(failure=FailureClass.WORKSPACE))

    row = account(world)
    assert row is not None
    (again,) = held(world)
    assert (again.id, again.fence) != (task.id, task.fence)
    assert row.canary == Canary(again.id, again.fence)


def test_a_command_says_nothing_about_the_model() -> None:
    world, exhausted = parked("m1")
    world.ask(facts.Cancel(exhausted))
    (first,) = world.submit(TaskSpec(title="c", command=("true",)))
    world.submit("then")
    later(world, HOUR_MS)
    assert canary_of(world) == first

    world.tell(facts.CanaryLived(first, world.task(first).fence), machine("m1"))
    world.finish(first, done())

    assert canary_of(world) not in (first, exhausted)


def test_a_landing_that_is_tried_again_says_nothing_about_the_model() -> None:
    world = fleet("m1")
    landing = world.landing(on="m1")
    exhausted = working(world)
    world.finish(exhausted, quota(world))
    world.ask(facts.Cancel(exhausted))
    world.land(landing, LandStatus.ERROR)
    later(world, HOUR_MS)
    assert canary_of(world) == landing

    world.accept(landing)
    assert world.task(landing).phase is Phase.LANDING

    row = account(world)
    assert row is not None
    assert not row.closed
    world.submit("then")
    assert canary_of(world) != landing


def test_only_the_canary_itself_shows_life() -> None:
    world, task = tried()
    other = next(name for name in ("m1", "m2", "m3") if name != task.machine)

    world.tell(facts.CanaryLived(task.id, task.fence), machine(other))
    world.tell(facts.CanaryLived(task.id, Fence(7, 99)), machine(task.machine or ""))
    world.tell(facts.CanaryLived(TaskId("nobody"), task.fence), machine(task.machine or ""))

    assert canary_of(world) == task.id
    world.tell(facts.CanaryLived(task.id, task.fence), machine(task.machine or ""))
    assert account(world) is None
    world.tell(facts.CanaryLived(task.id, task.fence), machine(task.machine or ""))


def leftover(in_ms: int | None) -> tuple[Pool, TaskId, TaskId]:
    """Return a world in which an attempt from before the park ends while a canary tries."""
    world = fleet("m1", "m2", "m3")
    old, exhausted = working(world, "old", deadline_ms=4 * HOUR_MS), working(world)
    world.finish(exhausted, quota(world, in_ms=1_000))
    world.submit("a", "b")
    later(world, 1_000)
    canary = canary_of(world)
    world.finish(old, quota(world, in_ms))
    return world, old, canary


def test_an_older_attempt_that_states_no_reset_leaves_it_to_the_canary() -> None:
    world, old, canary = leftover(None)

    assert canary_of(world) == canary
    assert world.task(old).until == world.now.wall + QUOTA_RETRY_MS


def test_a_reset_that_an_older_attempt_states_is_believed() -> None:
    world, _, canary = leftover(HOUR_MS)

    row = account(world)
    assert row is not None
    assert (row.parked_until, row.canary) == (world.now.wall + HOUR_MS, None)
    world.finish(canary, done())  # it is one more attempt from before
    assert account(world) == row


# Times, restarts, people --------------------------------------------------------------------------


def test_a_restart_keeps_the_park_and_its_time() -> None:
    world, _ = parked()
    later(world, HOUR_MS // 2)
    world.submit("a", "b")

    world.restart()
    for name in ("m1", "m2", "m3"):
        world.machine(name, agent(f"a-{name}", account=ANN))

    assert not held(world)
    later(world, HOUR_MS // 2)
    assert [task.id for task in held(world)] == [canary_of(world)]


def test_a_restart_keeps_the_canary() -> None:
    world, task = tried()
    world.accept(task.id)

    world.restart()
    held_here = [world.holding(task.id)]
    for name in ("m1", "m2", "m3"):
        mine = held_here if name == task.machine else []
        world.machine(name, agent(f"a-{name}", account=ANN), held=mine)

    assert [t.id for t in held(world)] == [task.id] == [canary_of(world)]


def test_timers_follow_the_wall_clock() -> None:
    world, _ = parked()
    row = account(world)
    assert row is not None
    assert row.parked_until is not None

    def timer(wall_ms: int) -> int:
        now = Now(world.now.instant, WallTime(row.parked_until + wall_ms))  # type: ignore[operator]  # it is parked
        (found,) = [e for e in deadlines.timers(world.view, now) if isinstance(e, SetTimer)
                    and e.key == f"account/{ANN}"]  # fmt: skip
        return found.at - now.instant

    assert timer(-5) == 5
    assert timer(5) == 0
    assert timer(-20 * QUOTA_PARK_MAX_MS) == QUOTA_PARK_MAX_MS
    assert accounts.timers(Pool().view, world.now) == []


def test_a_reset_that_comes_too_early_is_waited_for() -> None:
    world, _ = parked()
    row = account(world)

    world.tell(due_facts.AccountDue(ANN))

    assert account(world) == row
    assert world.timers[f"account/{ANN}"].at == world.now_ms + HOUR_MS


def test_a_reset_is_not_waited_for_when_the_clock_was_set_back() -> None:
    world, _ = parked()
    world.now_ms -= 2 * QUOTA_PARK_MAX_MS

    world.tell(due_facts.AccountDue(ANN))

    row = account(world)
    assert row is not None
    assert row.parked_until is None
    world.tell(due_facts.AccountDue(ANN))
    assert account(world) == row
    world.tell(due_facts.AccountDue(AccountId("nobody")))


def test_an_account_that_no_agent_has_any_more_is_forgotten() -> None:
    world, _ = parked("m1")
    world.machine("m1", agent("a-m1", account="anthropic:bob"))

    later(world, HOUR_MS)

    assert account(world) is None


def test_a_park_whose_batch_found_no_room_leaves_no_trace() -> None:
    world = fleet()
    task = working(world)
    body = facts.Finished(task, world.task(task).fence, quota(world))
    fact = facts.Fact(body=body, actor=machine(world.task(task).machine or ""))

    world.decide([fact], commit=False)

    assert not world.view.accounts
    assert len(held(world)) == 1
    assert all(world.view.matcher.agent(a)[3] for a in ("a-m2", "a-m3"))  # type: ignore[index,arg-type]  # known names


@pytest.mark.parametrize("name", ["", "x" * (ACCOUNT_CHARS + 1), "a\nb"])
def test_the_name_of_an_account_has_bounds(name: str) -> None:
    with pytest.raises(InvalidInput):
        accounts.check_name(AccountId(name))

    world = Pool()
    world.machine("m1")
    reply = world.ask(
        facts.MachineConnected(
            agents=(agent("a-m1", account=name),), held=(), ttl_ms=20_000, connection=9
        ),
        machine("m1"),
    )
    assert isinstance(reply, Welcomed)
    assert [refused.code for refused in reply.refused] == [InvalidInput.code]
    accounts.check_name(None)


def test_a_person_opens_an_account_and_no_other_than_there_is() -> None:
    world, _ = parked()

    accounts.resume(Turn(world.view, now=world.now, ids=world.ids, rng=world.rng),
                    facts.ResumeAccount(ANN))  # fmt: skip

    assert not world.view.accounts
    world.view.discard()
    assert world.view.accounts
    assert world.ask(facts.ResumeAccount(ANN)) == world.ask(facts.ResumeAccount(ANN))
    with pytest.raises(NotFound):
        world.ask(facts.ResumeAccount(AccountId("nobody")))
