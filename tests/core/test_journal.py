"""A journal that takes changes back."""

from agentcom.core.journal import Journal


def test_a_rollback_restores_what_was_there() -> None:
    pool = Journal()
    mapping = {"a": 1, "b": 2}
    pool.put(mapping, "a", 5)
    mark = len(pool.journal)
    pool.put(mapping, "a", 6)
    pool.put(mapping, "new", 7)
    pool.drop(mapping, "b")
    pool.drop(mapping, "never")

    pool.rollback(mark)
    assert mapping == {"a": 5, "b": 2}
    pool.rollback(0)

    assert mapping == {"a": 1, "b": 2}


def test_other_changes_are_taken_back_in_their_place() -> None:
    pool = Journal()
    counts: dict[str, int] = {}
    seen: list[int] = []
    assert pool.tally(counts, "a", 2) == 0
    pool.undo(lambda: seen.append(counts["a"]))
    assert pool.tally(counts, "a", -2) == 2
    assert counts == {}

    pool.rollback(0)

    assert (counts, seen) == ({}, [2])
