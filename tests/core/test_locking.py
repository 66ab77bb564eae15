"""Locks over the life of their owners: had, waited for, renewed, ended, broken."""

from typing import Any

import msgspec
import pytest

from agentcom.core import facts, lock_facts
from agentcom.core.effects import Notify
from agentcom.model import limits
from agentcom.model.batch import Table
from agentcom.model.errors import InvalidInput, LockCycle, NotAllowed, NotFound, Stale, TooManyLocks
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import TaskId
from agentcom.model.lock import Lock, LockId
from agentcom.model.replies import LockTold
from agentcom.model.task import TaskSpec, TaskState
from agentcom.testing.world import machine, person
from tests.core.acts import Pool, done, failed

REPO = "https://git.example/team/app.git"
MINUTE_MS = 60_000


class House(Pool):
    """A pool whose people and agents take locks."""

    def lock(
        self, who: str, *globs: str, key: str | None = None, ttl_ms: int = MINUTE_MS, **fields: Any
    ) -> Lock:
        """Let a person ask for a lock."""
        body = lock_facts.AcquireLock(globs=globs, ttl_ms=ttl_ms, **fields)
        return told(self.ask(body, submitter(who), key=key)).lock

    def take(self, task: TaskId, *globs: str, **fields: Any) -> Lock:
        """Let the agent of a running task ask for a lock."""
        row = self.task(task)
        body = lock_facts.AcquireLock(globs=globs, task=task, fence=row.fence, **fields)
        return told(self.ask(body, machine(row.machine or ""))).lock

    def give(self, who: str, lock: Lock, **fields: Any) -> None:
        self.ask(lock_facts.ReleaseLock(lock=lock.id, **fields), submitter(who))

    def now_is(self, lock: Lock) -> Lock:
        """Return a lock as it is now."""
        row = self.rows[Table.LOCK, lock.id]
        assert isinstance(row, Lock)
        return row

    def held(self, lock: Lock) -> bool:
        row = self.rows.get((Table.LOCK, lock.id))
        return isinstance(row, Lock) and row.granted_at is not None

    def is_over(self, lock: Lock) -> bool:
        return (Table.LOCK, lock.id) not in self.rows


def told(reply: object) -> LockTold:
    assert isinstance(reply, LockTold)
    return reply


def submitter(name: str) -> Identity:
    return person(name, Role.SUBMITTER)


def test_a_name_has_one_holder_and_the_next_gets_it_with_a_higher_number() -> None:
    world = House()
    ann, bob = world.lock("ann", "deploy"), world.lock("bob", "deploy")
    assert world.held(ann)
    assert not world.held(bob)

    world.give("ann", ann)

    assert world.is_over(ann)
    assert world.now_is(bob).number > ann.number
    assert world.now_is(bob).expires_at == world.now.wall + MINUTE_MS


def test_locks_of_other_names_projects_and_repositories_are_apart() -> None:
    world = House()
    first = world.lock("ann", "src/**", repo=REPO)

    assert world.held(world.lock("bob", "docs/**", repo=REPO))
    assert world.held(world.lock("bob", "src/**", repo="https://git.example/other.git"))
    assert world.held(world.lock("bob", "src/**"))
    assert not world.held(world.lock("bob", "src/a.py", repo="ssh://git@git.example/team/app"))
    assert first.repo == "git.example/team/app"


def test_shared_locks_are_held_together_and_never_overtake_who_wants_it_alone() -> None:
    world = House()
    first, second = world.lock("ann", "a", shared=True), world.lock("bob", "a", shared=True)
    alone = world.lock("cy", "a")
    late = world.lock("dee", "a", shared=True)
    assert [world.held(one) for one in (first, second, alone, late)] == [True, True, False, False]

    world.give("ann", first)
    assert not world.held(alone)
    world.give("bob", second)
    assert [world.held(one) for one in (alone, late)] == [True, False]
    world.give("cy", alone)
    assert world.held(late)


def test_who_does_not_conflict_with_those_before_does_not_wait_for_them() -> None:
    world = House()
    world.lock("ann", "a")
    world.lock("bob", "a", "b")

    assert world.held(world.lock("cy", "c"))
    assert not world.held(world.lock("dee", "b")), "bob asked for it before"


def test_asking_again_renews_a_lock_and_keeps_a_place() -> None:
    world = House()
    ann = world.lock("ann", "a")
    bob = world.lock("bob", "a", queue_ms=10 * MINUTE_MS)
    late = world.lock("cy", "a", queue_ms=10 * MINUTE_MS)
    world.advance(MINUTE_MS - 1)

    again = world.lock("ann", "a")
    place = world.lock("bob", "a", queue_ms=5 * MINUTE_MS)

    assert (again.id, again.number) == (ann.id, ann.number)
    assert again.expires_at == world.now.wall + MINUTE_MS
    assert place.id == bob.id
    world.advance(MINUTE_MS)
    assert world.held(bob)
    assert not world.held(late)


def test_a_lock_ends_at_its_time_and_a_place_in_the_queue_at_its_own() -> None:
    world = House()
    ann = world.lock("ann", "a", ttl_ms=10 * MINUTE_MS)
    short = world.lock("bob", "a", queue_ms=1_000)
    usual = world.lock("cy", "a")
    long = world.lock("dee", "a", queue_ms=20 * MINUTE_MS)

    world.advance(1_000)
    assert world.is_over(short)
    world.advance(limits.LOCK_QUEUE_MS)
    assert world.is_over(usual)
    world.advance(10 * MINUTE_MS - 1_000 - limits.LOCK_QUEUE_MS - 1)
    assert world.held(ann)
    world.advance(1)

    assert world.is_over(ann)
    assert world.held(long)


def test_a_restart_forgets_no_lock_no_place_and_no_number() -> None:
    world = House()
    ann, bob = world.lock("ann", "a"), world.lock("bob", "a", queue_ms=5 * MINUTE_MS)

    world.restart()
    world.advance(MINUTE_MS)

    assert world.is_over(ann)
    assert world.now_is(bob).number > ann.number
    number = world.now_is(bob).number
    world.give("bob", bob)
    world.restart()
    assert world.lock("cy", "z").number > number


def test_a_restored_hub_gives_higher_numbers_than_the_one_that_was_lost() -> None:
    world = House()
    world.lock("ann", "a")
    backup = {**world.rows}
    lost = [world.lock("ann", f"n{at}").number for at in range(5)]

    world.rows = backup
    world.restore()

    assert world.lock("bob", "b").number > max(lost)


@pytest.mark.parametrize("end", ["done", "failed", "stopped", "vanished", "declined"])
def test_every_end_of_an_attempt_ends_its_locks(end: str) -> None:
    world = House()
    task = world.running()
    lock, waiting = world.take(task, "a", "b"), world.lock("ann", "b")
    world.lock("bob", "z")
    place = world.take(task, "z")
    assert world.held(lock)
    if end == "stopped":
        world.ask(facts.Cancel(task))
        world.tell(facts.Stopped(task, world.task(task).fence), machine("m1"))
    elif end == "vanished":
        world.advance(MINUTE_MS // 2)
        world.lock("ann", "b")
        world.vanish("m1")
    elif end == "declined":
        world.tell(facts.Declined(task, world.task(task).fence, "no"), machine("m1"))
    else:
        world.finish(task, done() if end == "done" else failed())

    assert world.is_over(lock)
    assert world.is_over(place)
    assert world.held(waiting)


def test_an_attempt_that_comes_back_is_told_that_its_locks_have_ended() -> None:
    world = House()
    first, second = world.running(), world.running(on="m2")
    world.take(first, "a")
    world.vanish("m1")
    world.vanish("m2")

    world.machine("m1", held=[world.holding(first)])
    world.machine("m2", held=[world.holding(second)])

    assert [world.task(task).state for task in (first, second)] == [TaskState.RUNNING] * 2
    (notice,) = [effect for effect in world.effects if isinstance(effect, Notify)]
    assert (notice.task, notice.fence) == (first, world.task(first).fence)
    assert "your locks have ended" in notice.text


def test_a_lock_of_an_attempt_lasts_as_long_as_that_and_shorter_if_it_says_so() -> None:
    world = House()
    task = world.running()
    lock = world.take(task, "a")
    short = world.take(task, "b", ttl_ms=1_000)
    world.advance(1_000)

    assert world.held(lock)
    assert lock.expires_at is None
    assert lock.holder == "agent:m1"
    assert world.is_over(short)
    notices = [effect.text for effect in world.effects if isinstance(effect, Notify)]
    assert notices == ["your lock on b has ended: its time is over"]


def test_an_agent_that_waits_is_told_when_it_is_its_turn() -> None:
    world = House()
    ann = world.lock("ann", "a")
    task = world.running()
    lock = world.take(task, "a")

    world.give("ann", ann)

    notice = next(effect for effect in world.effects if isinstance(effect, Notify))
    number = world.now_is(lock).number
    assert (notice.task, notice.text) == (task, f"your lock on a is yours now, number {number}")


def test_an_attempt_that_is_over_gets_and_gives_nothing() -> None:
    world = House()
    task = world.running()
    lock, fence = world.take(task, "a"), world.task(task).fence
    world.finish(task, failed())

    for body in (
        lock_facts.AcquireLock(globs=("b",), task=task, fence=fence),
        lock_facts.ReleaseLock(lock=world.lock("ann", "c").id, task=task, fence=fence),
    ):
        with pytest.raises(Stale):
            world.ask(body, machine("m1"))
    assert world.is_over(lock)


def test_a_lock_is_its_owners_and_an_operator_may_break_it() -> None:
    world = House()
    task = world.running()
    lock, waiting = world.take(task, "a"), world.lock("bob", "a")

    for force in (False, True):
        with pytest.raises(NotAllowed):
            world.give("bob", lock, force=force)
    with pytest.raises(NotAllowed, match="agent:m1 has it"):
        world.ask(lock_facts.ReleaseLock(lock=lock.id), person("olga"))
    world.ask(lock_facts.ReleaseLock(lock=lock.id, force=True), person("olga"))

    assert world.held(waiting)
    texts = [effect.text for effect in world.effects if isinstance(effect, Notify)]
    assert texts == ["your lock on a was broken by olga"]


def test_another_projects_locks_cannot_be_seen_and_keep_the_same_files() -> None:
    world = House()
    foreign = Identity(
        role=Role.ADMIN,
        user=person("eve").user,
        credential="e",
        project="other",  # type: ignore[arg-type]  # a name
    )
    body = lock_facts.AcquireLock(globs=("src/**",), repo=REPO, ttl_ms=MINUTE_MS)
    theirs = told(world.ask(body, foreign)).lock

    waits = told(world.ask(body, submitter("ann")))

    assert waits.behind == ("a lock of another project",)
    for ask in lock_facts.ShowLock(theirs.id), lock_facts.ReleaseLock(lock=theirs.id, force=True):
        with pytest.raises(NotFound):
            world.ask(ask, person("olga"))


def test_who_would_wait_for_itself_is_refused_and_told_how() -> None:
    world = House()
    world.lock("ann", "a")
    world.lock("bob", "b")
    task = world.running()
    world.take(task, "c")
    world.lock("ann", "b")
    world.lock("bob", "c")

    with pytest.raises(LockCycle) as refused:
        world.take(task, "a")

    assert "agent:m1 would wait for user:ann (lock" in refused.value.message
    assert refused.value.message.count(" waits for ") == 2
    world.lock("cy", "a")


def test_who_waits_for_me_is_overtaken_where_both_would_wait_for_ever() -> None:
    world = House()
    ann = world.lock("ann", "x")
    bob = world.lock("bob", "x", "y")

    more = world.lock("ann", "y")

    assert world.held(more)
    world.give("ann", ann)
    assert not world.held(bob)
    world.give("ann", more)
    assert world.held(bob)


def test_of_two_who_share_a_lock_one_may_wait_to_have_it_alone() -> None:
    world = House()
    ann = world.lock("ann", "a", shared=True)
    bob = world.lock("bob", "a", shared=True)
    alone = world.lock("ann", "a")

    with pytest.raises(LockCycle):
        world.lock("bob", "a")
    world.give("bob", bob)

    assert world.held(alone)
    assert world.held(ann)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ttl_ms": None},
        {"ttl_ms": 0},
        {"ttl_ms": limits.LOCK_TTL_MAX_MS + 1},
        {"queue_ms": limits.LOCK_TTL_MAX_MS + 1},
        {"globs": ()},
        {"globs": ("../x",)},
        {"repo": "a\nb"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    world = House()
    fields: dict[str, Any] = {"globs": ("a",), "ttl_ms": MINUTE_MS, **wrong}

    with pytest.raises(InvalidInput):
        world.ask(lock_facts.AcquireLock(**fields), submitter("ann"))


@pytest.mark.parametrize(
    ("limit", "at_most"),
    [
        ("LOCKS_MAX", "10000"),
        ("LOCKS_PER_OWNER", "at most 2 locks"),
        ("LOCK_PATTERNS_MAX", "2 patterns"),
        ("LOCK_WAITERS_MAX", "2 wait"),
    ],
)
def test_there_is_room_for_so_many_and_no_more(
    monkeypatch: pytest.MonkeyPatch, limit: str, at_most: str
) -> None:
    monkeypatch.setattr(limits, limit, 2)
    world = House()
    world.lock("zoe", "a")
    for at in range(2):
        who, name = ("ann", f"n{at}") if limit == "LOCKS_PER_OWNER" else (f"p{at}", "a")
        if limit in ("LOCKS_MAX", "LOCK_PATTERNS_MAX") and at:
            break
        world.lock(who, name)

    with pytest.raises(TooManyLocks) as refused:
        world.lock("ann", "a")

    assert at_most.replace("10000", "2") in refused.value.message


def test_the_same_request_gets_the_same_lock() -> None:
    world = House()
    first = world.lock("ann", "a", key="k")
    world.give("ann", first)

    assert world.lock("ann", "a", key="k").id == first.id
    assert world.is_over(first), "a repeat takes nothing"


def test_a_batch_that_was_not_written_gave_and_took_nothing() -> None:
    world = House()
    ann, bob = world.lock("ann", "a"), world.lock("bob", "a")
    before = {**world.view.gates.locks.rows}
    asked = lock_facts.AcquireLock(globs=("b",), ttl_ms=1_000)
    batch = [
        facts.Fact(body=lock_facts.ReleaseLock(lock=ann.id), actor=submitter("ann")),
        facts.Fact(body=asked, actor=submitter("ann")),
    ]

    world.decide(batch, commit=False)

    assert world.view.gates.locks.rows == before
    world.give("ann", ann)
    assert world.held(bob)


def test_a_clock_that_was_set_back_makes_no_lock_last_longer() -> None:
    world = House()
    lock = world.lock("ann", "a", ttl_ms=10_000)
    day = world.now.wall + 86_400_000
    world.rows[Table.LOCK, lock.id] = msgspec.structs.replace(lock, expires_at=day)

    world.restart()
    world.advance(100)
    assert world.held(lock)
    world.advance(10_000)

    assert world.is_over(lock)


def test_a_lock_can_be_looked_at() -> None:
    world = House()
    ann, bob = world.lock("ann", "a"), world.lock("bob", "a")

    assert told(world.ask(lock_facts.ShowLock(ann.id))).lock == ann
    shown = told(world.ask(lock_facts.ShowLock(bob.id)))
    assert shown.behind == (f"user:ann ({ann.words})",)
    with pytest.raises(NotFound):
        world.ask(lock_facts.ShowLock(LockId("none")))


def test_many_locks_that_end_together_end_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CASCADE_BATCH", 2)
    world = House()
    all_of_them = [world.lock("ann", f"n{at}") for at in range(5)]

    world.advance(MINUTE_MS + 10)

    assert all(map(world.is_over, all_of_them))


# Files of tasks ----------------------------------------------------------------------------------


def scoped(*globs: str, shared: bool = False) -> dict[str, Any]:
    return {"repo": REPO, "scope": globs, "scope_shared": shared}


def test_a_lock_waits_for_a_task_that_claims_its_files_unless_it_is_its_own() -> None:
    world = House()
    task = world.running(**scoped("src/**"))

    lock = world.lock("ann", "src/a.py", repo=REPO)
    own = world.take(task, "src/b.py", repo=REPO)

    assert world.held(own)
    assert not world.held(lock)
    shown = told(world.ask(lock_facts.ShowLock(lock.id)))
    assert shown.behind == (f"task {task[-6:]}",)
    world.finish(task)
    assert world.held(lock)


def test_a_task_waits_for_locks_on_its_files_and_says_whose() -> None:
    world = House()
    lock = world.lock("ann", "src/**", repo=REPO)
    world.machine("m1")
    (task,) = world.submit(spec(*("src/a.py",)))
    assert world.task(task).state is TaskState.QUEUED

    reply = world.ask(facts.Explain(task))
    words = f"its files (src/a.py) are locked by user:ann ({lock.words})"
    assert reply.summary == words  # type: ignore[union-attr]  # an explanation
    world.give("ann", lock)

    assert world.task(task).state is TaskState.ASSIGNED


def spec(*globs: str) -> TaskSpec:
    return TaskSpec(title="t", prompt="p", repo=REPO, scope=globs)


def test_a_lock_that_waits_lets_no_new_task_pass_it() -> None:
    world = House()
    first = world.running(**scoped("src/**", shared=True))
    lock = world.lock("ann", "src/**", repo=REPO, ttl_ms=5_000)
    world.machine("m2")
    (second,) = world.submit(spec("src/a.py"))

    assert world.task(second).state is TaskState.QUEUED
    world.finish(first)
    assert world.held(lock)
    assert world.task(second).state is TaskState.QUEUED
    world.advance(5_000)
    assert world.task(second).state is TaskState.ASSIGNED
