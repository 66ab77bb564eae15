"""A key that was added is never called absent."""

from hypothesis import given
from hypothesis import strategies as st

from agentcom.store.absent import Absent


@given(st.sets(st.text(), max_size=50))
def test_what_was_added_is_never_called_absent(keys: set[str]) -> None:
    absent = Absent()

    for key in keys:
        absent.add(key)

    assert not any(absent.lacks(key) for key in keys)


def test_nearly_all_others_are_called_absent() -> None:
    absent = Absent()
    for number in range(20_000):
        absent.add(f"ann/{number}")

    wrong = sum(not absent.lacks(f"bob/{number}") for number in range(20_000))

    assert wrong <= 20
