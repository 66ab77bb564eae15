"""The lazy heap: order, bounded stale entries, and walking without losing anything."""

from contextlib import closing
from operator import itemgetter

from hypothesis import given
from hypothesis import strategies as st

from agentcom.core.lazyheap import STALE_SLACK, LazyHeap, walk

Entry = tuple[int, str]


def heap_of(*numbers: int) -> tuple[dict[str, Entry], LazyHeap[str, Entry]]:
    live: dict[str, Entry] = {}
    lazy: LazyHeap[str, Entry] = LazyHeap(live, itemgetter(1))
    for number in numbers:
        add(live, lazy, number)
    return live, lazy


def add(live: dict[str, Entry], lazy: LazyHeap[str, Entry], number: int) -> None:
    entry = (number, str(number))
    live[entry[1]] = entry
    lazy.push(entry)


def drop(live: dict[str, Entry], lazy: LazyHeap[str, Entry], number: int) -> None:
    lazy.dropped(live.pop(str(number)))


@given(st.lists(st.integers(0, 9), max_size=60))
def test_the_top_counts_and_stale_entries_stay_within_their_bound(steps: list[int]) -> None:
    live, lazy = heap_of(*range(10))

    for number in steps:
        if str(number) in live:
            drop(live, lazy, number)
        else:
            add(live, lazy, number)

        assert len(lazy) == len(live)
        assert len(lazy.heap) - len(lazy) <= len(lazy.heap) // 2 + STALE_SLACK
        assert sorted(lazy) == sorted(live.values())
        assert not live or lazy.heap[0] == min(live.values())


def test_dropping_from_the_end_rebuilds_the_heap() -> None:
    live, lazy = heap_of(*range(300))

    for number in range(299, 0, -1):
        drop(live, lazy, number)

    assert len(lazy) == 1
    assert len(lazy.heap) <= 2 * STALE_SLACK + 2


def test_a_rebuilt_heap_is_in_order() -> None:
    live, lazy = heap_of(0, *range(1, 1000, 7), *range(2, 1000, 7), *range(3, 1000, 7))
    kept = [0, *range(500, 996, 7), *range(3, 200, 7)]
    for number in sorted({int(name) for name in live} - set(kept)):
        drop(live, lazy, number)

    with closing(walk([lazy])) as entries:
        seen = [entry[0] for entry in entries]

    assert seen == sorted(int(name) for name in live)


def test_a_walk_yields_all_heaps_in_one_order_and_leaves_them_whole() -> None:
    live, odd = heap_of(1, 3, 5, 7)
    drop(live, odd, 5)
    _, even = heap_of(2, 4)
    _, empty = heap_of()

    with closing(walk([odd, even, empty])) as entries:
        seen = [entry[0] for entry in entries]

    assert seen == [1, 2, 3, 4, 7]
    assert sorted(odd) == [(1, "1"), (3, "3"), (7, "7")]
    assert odd.heap[0] == (1, "1")


def test_a_walk_takes_at_most_the_limit_of_each_heap() -> None:
    _, first = heap_of(1, 2, 3)
    _, second = heap_of(10, 11, 12)

    with closing(walk([first, second], 2)) as entries:
        seen = [entry[0] for entry in entries]

    assert seen == [1, 2, 10, 11]
    assert len(first) == len(second) == 3


def test_a_walk_that_is_left_early_puts_back_what_it_took() -> None:
    _, lazy = heap_of(3, 1, 2)

    with closing(walk([lazy])) as entries:
        next(entries)
        next(entries)

    assert sorted(lazy) == [(1, "1"), (2, "2"), (3, "3")]
