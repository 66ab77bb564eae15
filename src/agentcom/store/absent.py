"""Keys that are certainly not stored: a Bloom filter of one byte per key (Bloom, CACM 13(7), 1970).

Nearly every request comes with a key that was never used. To know that without reading costs less
than a microsecond; a false "maybe" costs the read that would have been done anyway.
"""

from itertools import combinations, cycle, islice
from typing import Final

_PLACES_LOG2: Final = 23  # 8 MiB: of look-ups among a million keys, one in 300 is in vain
_PLACE: Final = (1 << _PLACES_LOG2) - 1
_TRIPLES: Final = [1 << a | 1 << b | 1 << c for a, b, c in combinations(range(8), 3)]
_MARKS: Final = tuple(islice(cycle(_TRIPLES), 256))  # which three bits of the byte are a key's


class Absent:
    """A set of keys that forgets details: it never calls a key absent that was added."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray(1 << _PLACES_LOG2)

    def add(self, key: str) -> None:
        """Remember a key. One thread at a time."""
        number = hash(key)
        self._bytes[number & _PLACE] |= _MARKS[number >> _PLACES_LOG2 & 255]

    def lacks(self, key: str) -> bool:
        """Return True only if `key` was never added."""
        number = hash(key)
        mark = _MARKS[number >> _PLACES_LOG2 & 255]
        return self._bytes[number & _PLACE] & mark != mark
