"""The checker of leases sees what it is for."""

from agentcom.model.ids import Instant
from agentcom.testing.chaos.beliefs import overlaps, parse


def _entry(attempt: int, pid: int, **fields: int) -> dict[str, object]:
    return {"task": "t1", "fence": [7, attempt], "pid": pid, **fields}


def _beliefs(machine: str, *entries: dict[str, object], died: int | None = None) -> list[object]:
    deaths = {1: Instant(died)} if died is not None else {}
    return list(parse(machine, entries, deaths)[0])


def test_two_holders_at_one_moment_are_found() -> None:
    one = _beliefs("ash", _entry(1, 1, at=0, until=100))
    other = _beliefs("box", _entry(2, 2, at=99, until=200))

    assert len(overlaps([*one, *other])) == 1  # type: ignore[list-item] # beliefs


def test_a_prolonged_lease_is_one_belief() -> None:
    one = _beliefs("ash", _entry(1, 1, at=0, until=100), _entry(1, 1, at=50, until=150))
    other = _beliefs("box", _entry(2, 2, at=120, until=200))

    assert len(overlaps([*one, *other])) == 1  # type: ignore[list-item] # beliefs


def test_a_belief_ends_with_its_lease_its_word_or_its_process() -> None:
    by_lease = _beliefs("ash", _entry(1, 1, at=0, until=100))
    by_word = _beliefs("ash", _entry(1, 1, at=0, until=500), _entry(1, 1, end=100))
    by_death = _beliefs("ash", _entry(1, 1, at=0, until=500), died=100)
    other = _beliefs("box", _entry(2, 2, at=100, until=200))

    for beliefs in (by_lease, by_word, by_death):
        assert overlaps([*beliefs, *other]) == []  # type: ignore[list-item] # beliefs


def test_a_renewal_after_a_lapse_is_a_new_belief() -> None:
    one = _beliefs("ash", _entry(1, 1, at=0, until=100), _entry(1, 1, at=300, until=400))
    between = _beliefs("box", _entry(2, 2, at=150, until=250))

    assert overlaps([*one, *between]) == []  # type: ignore[list-item] # beliefs


def test_a_finished_attempt_is_told_apart() -> None:
    entries = [_entry(1, 1, at=0, until=100), _entry(1, 1, finished=60)]

    _, finished = parse("ash", entries, {})

    assert [one.at for one in finished] == [60]
