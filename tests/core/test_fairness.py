"""Fair queueing: shares, the bound on overtaking, rollback, bounded memory, restart."""

from heapq import heappop, heappush
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.core.fairness import (
    PRIORITY_STEP,
    PRUNE_SLACK,
    Fairness,
    Rank,
    Share,
    order_tag,
    rank,
)
from agentcom.model.ids import UserId

ANN, BOB, CY = UserId("ann"), UserId("bob"), UserId("cy")


def test_a_submitter_with_a_backlog_does_not_delay_a_newcomer() -> None:
    fairness = Fairness([])
    tags = [fairness.start_tag(ANN) for _ in range(100)]

    fairness.dispatched(tags[0])
    fairness.dispatched(tags[1])

    assert fairness.start_tag(BOB) == tags[1]


def test_an_idle_submitter_saves_up_nothing() -> None:
    fairness = Fairness([])
    fairness.start_tag(BOB)
    fairness.dispatched(500.0)

    assert fairness.start_tag(BOB) == 500.0


def test_virtual_time_never_goes_back() -> None:
    fairness = Fairness([])
    fairness.dispatched(5.0)

    fairness.dispatched(3.0)

    assert fairness.virtual_time == 5.0


def test_shares_follow_the_weights() -> None:
    fairness = Fairness([])
    queue = [(fairness.start_tag(ANN, 3.0), n, ANN) for n in range(300)]
    queue += [(fairness.start_tag(BOB, 1.0), n, BOB) for n in range(300)]

    first = [who for _, _, who in sorted(queue)[:200]]

    assert first.count(ANN) == pytest.approx(150, abs=2)


def test_an_emergency_comes_before_every_priority() -> None:
    assert rank(1e9, -10, 2, emergency=True) < rank(0.0, 10, 1)


def test_one_step_of_priority_is_worth_eight_tasks() -> None:
    assert order_tag(8.0, 1) == order_tag(0.0, 0)


@given(
    before=st.integers(0, 30),
    own=st.integers(-10, 10),
    flood=st.integers(-10, 10),
    weight=st.sampled_from([0.5, 1.0, 4.0]),
    cost=st.sampled_from([0.5, 1.0, 3.0]),
    ahead=st.integers(0, 20),
)
def test_later_tasks_overtake_at_most_as_often_as_stated(
    before: int, own: int, flood: int, weight: float, cost: float, ahead: int
) -> None:
    fairness = Fairness([])
    queue: list[tuple[Rank, str]] = []
    for seq in range(before):
        heappush(queue, (rank(fairness.start_tag(BOB, weight, cost), flood, seq), "early"))
    for _ in range(ahead):
        fairness.start_tag(ANN)
    start = fairness.start_tag(ANN)
    bound = ceil(max(0.0, start + (flood - own) * PRIORITY_STEP) * weight / cost)
    heappush(queue, (rank(start, own, 1_000), "ann"))

    overtakes = served = 0
    while True:
        # The flood never ends: a new task comes with each dispatch.
        tag = fairness.start_tag(BOB, weight, cost)
        heappush(queue, (rank(tag, flood, 1_001 + served), "late"))
        place, who = heappop(queue)
        fairness.dispatched(place[1])
        served += 1
        if who == "ann":
            break
        overtakes += who == "late"

    assert overtakes <= bound


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from([ANN, BOB, CY])),
        st.tuples(st.just("refund"), st.sampled_from([ANN, BOB, CY])),
        st.tuples(st.just("dispatch"), st.floats(0, 50)),
    ),
    max_size=30,
)


def run(fairness: Fairness, steps: list[tuple[str, UserId | float]]) -> None:
    for what, value in steps:
        if isinstance(value, float):
            fairness.dispatched(value)
        elif what == "refund":
            fairness.refund(value)
        else:
            fairness.start_tag(value)


@given(STEPS, STEPS, STEPS)
def test_a_rollback_leaves_no_trace(
    kept: list[tuple[str, UserId | float]],
    pending: list[tuple[str, UserId | float]],
    undone: list[tuple[str, UserId | float]],
) -> None:
    journal: list[tuple[Any, ...]] = []
    fairness, twin = Fairness(journal), Fairness([])
    for one in (fairness, twin):
        run(one, kept)
        one.settle()
        run(one, pending)

    journal.clear()
    run(fairness, undone)
    for undo, *arguments in reversed(journal):
        undo(*arguments)

    assert fairness.virtual_time == twin.virtual_time
    assert [fairness.start_tag(who) for who in (ANN, BOB, CY)] == [
        twin.start_tag(who) for who in (ANN, BOB, CY)
    ]


def test_a_withdrawn_task_is_not_charged() -> None:
    fairness = Fairness([])
    for _ in range(100):
        fairness.start_tag(ANN)

    for _ in range(100):
        fairness.refund(ANN)

    assert fairness.start_tag(ANN) == 0.0


def test_a_refund_never_reaches_behind_virtual_time() -> None:
    fairness = Fairness([])
    fairness.start_tag(ANN, 1.0, 10.0)
    fairness.dispatched(8.0)

    fairness.refund(ANN, 1.0, 10.0)

    assert fairness.start_tag(ANN) == 8.0


def test_memory_is_bounded_by_the_submitters_with_a_backlog() -> None:
    fairness = Fairness([])
    for number in range(5_000):
        fairness.dispatched(fairness.start_tag(UserId(f"u{number}")) + 1)
        fairness.settle()

        assert len(fairness) <= PRUNE_SLACK + 1


def test_a_restart_keeps_order_and_shares() -> None:
    fairness = Fairness([])
    rows = [
        Share(ANN, start_tag=4.0, span=1.0, order_tag=4.0, dispatched=True),
        Share(ANN, start_tag=6.0, span=1.0, order_tag=6.0, dispatched=False),
        Share(ANN, start_tag=5.0, span=1.0, order_tag=5.0, dispatched=False),
        Share(BOB, start_tag=2.0, span=1.0, order_tag=2.0, dispatched=True),
        Share(CY, start_tag=99.0, span=1.0, order_tag=None, dispatched=True),
    ]

    fairness.restore(rows)

    assert fairness.virtual_time == 5.0
    assert fairness.start_tag(ANN) == 7.0
    assert fairness.start_tag(BOB) == 5.0
    assert fairness.start_tag(CY) == 100.0


def test_a_restart_without_tasks_starts_at_zero() -> None:
    fairness = Fairness([])
    fairness.dispatched(3.0)

    fairness.restore([])

    assert fairness.virtual_time == 0.0
    assert len(fairness) == 0
