"""Keys that are certainly not stored: a Bloom filter (Bloom, CACM 13(7), 1970).

Nearly every request comes with a key that was never used. To know that without reading costs a
microsecond; a false "maybe" costs the read that would have been done anyway.
"""

from typing import Final

_BITS_LOG2: Final = 26  # 8 MiB: with 5 million keys one look-up in 200 is in vain
_MASK: Final = (1 << _BITS_LOG2) - 1
_WORD: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15  # mixes the hash for the second half of the indexes


class Absent:
    """A set of keys that forgets details: it never calls a key absent that was added."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray(1 << (_BITS_LOG2 - 3))

    def add(self, key: str) -> None:
        """Remember a key. One thread at a time."""
        bits = self._bits
        for index in _indexes(key):
            bits[index >> 3] |= 1 << (index & 7)

    def lacks(self, key: str) -> bool:
        """Return True only if `key` was never added."""
        bits = self._bits
        return not all(bits[index >> 3] >> (index & 7) & 1 for index in _indexes(key))


def _indexes(key: str) -> tuple[int, int, int, int]:
    first = hash(key) & _WORD
    second = first * _GOLDEN & _WORD
    return first & _MASK, first >> 32 & _MASK, second >> 8 & _MASK, second >> 36 & _MASK
