"""Which locks exclude each other, and who waits for whom."""

import msgspec

from agentcom.core.locks import Locks, meet, owner_of, place_of, shown, words
from agentcom.model.address import Address
from agentcom.model.ids import ProjectId, TaskId, WallTime
from agentcom.model.lock import Lock, LockId

_NUMBERS = iter(range(1, 1_000))


def lock(who: str, *globs: str, held: bool = True, **fields: object) -> Lock:
    made = Lock(
        id=LockId(f"lock{next(_NUMBERS):04d}"),
        holder=Address(who),
        at=WallTime(1),
        globs=globs,
        granted_at=WallTime(1) if held else None,
    )
    return msgspec.structs.replace(made, **fields)


def book(*rows: Lock) -> Locks:
    """Return locks in one place, beside a task that claims files there."""
    made = Locks({"repo:r": {TaskId("task01"): lock("agent:x", "src/**")}})
    for row in rows:
        made.rows[row.id] = row
        made.places.setdefault(place_of(row), {})[row.id] = None
        made.of.setdefault(owner_of(row), {})[row.id] = None
    return made


def test_claims_exclude_each_other_where_they_overlap_and_not_both_are_shared() -> None:
    one, other = lock("user:ann", "src/**"), lock("user:bob", "src/a.py")

    assert meet(one, other)
    assert meet(one, msgspec.structs.replace(other, shared=True))
    assert not meet(*(msgspec.structs.replace(each, shared=True) for each in (one, other)))
    assert not meet(one, lock("user:bob", "docs/**"))


def test_names_stand_in_their_project_and_files_in_their_repository() -> None:
    assert place_of(lock("user:ann", "a", project=ProjectId("p"))) == "names:p"
    assert place_of(lock("user:ann", "a", project=ProjectId("p"), repo="r")) == "repo:r"


def test_an_agents_locks_are_its_tasks() -> None:
    assert owner_of(lock("agent:x", "a", task=TaskId("t"))) == "t"
    assert owner_of(lock("user:ann", "a")) == "user:ann"


def test_a_lock_waits_for_what_is_held_for_who_asked_before_and_for_tasks() -> None:
    held = lock("user:ann", "src/a", repo="r")
    first = lock("user:bob", "src/*", repo="r", held=False)
    second = lock("user:cy", "src/**", repo="r", held=False)
    own = lock("user:bob", "src/*", repo="r", shared=True, held=False)
    locks = book(held, first, second, own)

    assert locks.blockers(first) == [held, "task01"]
    assert locks.blockers(second) == [held, first, "task01"]
    assert locks.blockers(own) == [held, second, "task01"]
    assert locks.blockers(
        lock("agent:x", "src/b", repo="r", task=TaskId("task01"), held=False)
    ) == [
        first,
        second,
        own,
    ]


def test_what_can_be_had_at_once_overtakes_only_who_waits_for_the_asker() -> None:
    ann = lock("user:ann", "x")
    bob = lock("user:bob", "x", "y", held=False)
    locks = book(ann, bob)

    assert locks.is_free(lock("user:ann", "y", held=False))
    assert not locks.is_free(lock("user:cy", "y", held=False))
    assert not locks.is_free(lock("user:ann", "src/b", repo="r", held=False))


def test_a_circle_is_found_over_several_owners_and_told() -> None:
    a, b, c = (
        lock("user:ann", "a"),
        lock("user:bob", "b"),
        lock("agent:x", "c", task=TaskId("task01")),
    )
    ann = lock("user:ann", "b", held=False)
    bob = lock("user:bob", "c", held=False)
    locks = book(a, b, c, ann, bob)
    asked = lock("agent:x", "a", task=TaskId("task01"), held=False)

    circle = locks.cycle(asked)

    assert circle == [(asked, a), (ann, b), (bob, c)]
    assert words(circle) == (
        f"agent:x would wait for user:ann ({a.words}); "
        f"user:ann waits for user:bob ({b.words}); user:bob waits for agent:x ({c.words})"
    )
    assert not locks.cycle(lock("user:cy", "a", held=False))


def test_a_circle_may_go_through_the_files_that_a_task_claims() -> None:
    locks = book(lock("user:ann", "a"), lock("user:ann", "src/x", repo="r", held=False))

    circle = locks.cycle(lock("agent:x", "a", task=TaskId("task01"), held=False))

    assert [blocker if isinstance(blocker, str) else blocker.holder for _, blocker in circle] == [
        "user:ann",
        "task01",
    ]


def test_another_projects_lock_has_no_name() -> None:
    mine = lock("user:ann", "a")

    theirs = lock("user:eve", "a", project=ProjectId("other"))
    assert shown(theirs, mine) == "a lock of another project"
    assert shown(TaskId("0000task01"), mine) == "task task01"
