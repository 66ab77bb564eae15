"""Which of a batch may land."""

import math

from hypothesis import given
from hypothesis import strategies as st

from agentcom.sidecar.machine_landing import Check, Land, Search, ThrowOut


def run(bad: list[bool]) -> tuple[Land | ThrowOut, int]:
    """Return how the search for the first bad one ends, and how many checks it took."""
    search, checks = Search(len(bad)), 0
    while isinstance(step := search.step(), Check):
        checks += 1
        search.found(step.count, passed=not any(bad[: step.count]))
    return step, checks


def test_one_check_serves_a_batch_that_is_good() -> None:
    assert run([False] * 16) == (Land(16), 1)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_what_passes_lands_and_only_the_first_guilty_one_is_thrown_out(bad: list[bool]) -> None:
    step, checks = run(bad)

    if not any(bad):
        assert step == Land(len(bad))
    else:
        assert step == ThrowOut(bad.index(True))
    assert checks <= 1 + math.ceil(math.log2(len(bad)) if len(bad) > 1 else 0)


def test_a_verdict_that_comes_twice_changes_nothing() -> None:
    search = Search(4)
    search.found(4, passed=False)
    search.found(4, passed=False)
    search.found(2, passed=True)
    search.found(1, passed=True)

    assert search.step() == Check(3)
