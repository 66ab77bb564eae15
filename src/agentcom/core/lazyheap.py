"""A heap whose entries are deleted by forgetting them elsewhere; the matcher's queues.

An entry counts while the owner's table maps its key to that very object. A forgotten entry is
stale: it leaves when it comes to the top, or when too many of them have gathered.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final, Generic, TypeVar

STALE_SLACK: Final = 64
"""Stale entries allowed beyond half of a heap: small heaps are not rebuilt all the time."""

_Key = TypeVar("_Key")
_Entry = TypeVar("_Entry", bound=tuple[object, ...])


class LazyHeap(Generic[_Key, _Entry]):
    """A heap of entries; the top is never stale, and stale ones are at most half plus a slack."""

    __slots__ = ("_key", "_live", "_stale", "heap")

    def __init__(self, live: Mapping[_Key, _Entry], key: Callable[[_Entry], _Key]) -> None:
        self.heap: list[_Entry] = []
        self._live = live
        self._key = key
        self._stale = 0

    def __len__(self) -> int:
        """Return how many entries count."""
        return len(self.heap) - self._stale

    def __iter__(self) -> Iterator[_Entry]:
        """Yield the entries that count, in no order."""
        live, key = self._live, self._key
        return (entry for entry in self.heap if live.get(key(entry)) is entry)

    def before(self, rank: tuple[object, ...], most: int) -> tuple[int, int]:
        """Return how many entries sort before `rank`, and how many were looked at to tell.

        No more than about `most` are looked at; the count is too low then.
        """
        heap, live, key = self.heap, self._live, self._key
        found, looked, look = 0, 0, [0]
        while look and looked < most:
            at = look.pop()
            looked += 1
            if at < len(heap) and heap[at] < rank:  # else nothing below it does, either
                found += live.get(key(heap[at])) is heap[at]
                look += (2 * at + 1, 2 * at + 2)
        return found, looked

    def push(self, entry: _Entry) -> None:
        """Add an entry that the owner's table holds already."""
        heappush(self.heap, entry)

    def dropped(self, entry: _Entry) -> None:
        """Note that the owner's table does not hold `entry` any more."""
        if entry is self.heap[0]:
            heappop(self.heap)
            self._clean()
        else:
            self._stale += 1
        if self._stale > len(self.heap) // 2 + STALE_SLACK:
            self.heap = list(self)
            heapify(self.heap)
            self._stale = 0

    def take(self) -> _Entry:
        """Remove the top for a while, although the owner's table holds it."""
        entry = heappop(self.heap)
        self._clean()
        return entry

    def _clean(self) -> None:
        heap, live, key = self.heap, self._live, self._key
        while heap and live.get(key(heap[0])) is not heap[0]:
            heappop(heap)
            self._stale -= 1


def walk(
    heaps: Sequence[LazyHeap[_Key, _Entry]], limit: int | None = None
) -> Generator[_Entry, None, None]:
    """Yield the entries of several heaps in one order, at most `limit` of each; none is lost.

    The heaps are whole again when the iterator is closed; use `contextlib.closing`.
    """
    taken: list[list[_Entry]] = [[] for _ in heaps]
    frontier = [(lazy.heap[0], at) for at, lazy in enumerate(heaps) if lazy.heap]
    heapify(frontier)
    try:
        while frontier:
            entry, at = frontier[0]
            yield entry
            lazy = heaps[at]
            taken[at].append(lazy.take())
            if lazy.heap and len(taken[at]) != limit:
                heapreplace(frontier, (lazy.heap[0], at))
            else:
                heappop(frontier)
    finally:
        for lazy, entries in zip(heaps, taken, strict=True):
            for entry in entries:
                lazy.push(entry)
