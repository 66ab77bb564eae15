"""Where a running hub's ids and chance come from."""

import secrets
from collections.abc import Callable, Iterator
from typing import Final

from agentcom.hub.clock import Clock
from agentcom.model.ids import encode_base32

_TIME_CHARS: Final = 10  # 48 bits, which start an id
_RANDOM_CHARS: Final = 12  # 60 random bits, which end it
_MARKS: Final = 0x7 << 16 | 0b10 << 2  # version and variant, around the counter
_COUNTER_MAX: Final = 0xFFF  # rand_a of RFC 9562
_SEED_BITS: Final = 11  # a new millisecond starts in the lower half: room for 2,048 more at least
_BITS_BYTES: Final = 2  # for the seed, and for the 2 random bits beside the variant
_PIECE_BYTES: Final = _BITS_BYTES + _RANDOM_CHARS
_FETCH_BYTES: Final = 288 * _PIECE_BYTES
_PAIRS: Final = tuple(encode_base32(bits, length=2) for bits in range(1_024))
_DIGITS: Final = bytes(ord(_PAIRS[byte & 31][1]) for byte in range(256))
"""A random byte to a random digit: eight bytes come to each."""


Entropy = Callable[[int], bytes]
"""Returns so many random bytes; a simulation gives bytes that repeat."""


def _chance(entropy: Entropy) -> Iterator[tuple[int, str]]:
    """Yield 16 random bits and digits, of which each is used once.

    Many are fetched at a time, since each fetch is a system call.
    """
    while True:
        fetched = entropy(_FETCH_BYTES)
        digits = fetched.translate(_DIGITS).decode()
        for start in range(0, _FETCH_BYTES, _PIECE_BYTES):
            rest = start + _BITS_BYTES
            yield int.from_bytes(fetched[start:rest]), digits[rest : start + _PIECE_BYTES]


class UuidIds:
    """UUIDv7 (RFC 9562, 6.2 method 1) as base 32; each sorts after the one before.

    That holds within the process also when the wall clock is set back, or when one millisecond
    needs more ids than the counter has: then the ids run ahead of the clock.
    """

    def __init__(self, clock: Clock, entropy: Entropy = secrets.token_bytes) -> None:
        self._clock = clock
        self._chance = _chance(entropy)
        self._ms = 0
        self._high, self._head = -1, ""
        """All of the time but its last ten bits, which alone change for a second."""
        self._time = ""
        self._counter = 0

    def new(self) -> str:
        """Return an id that sorts after every id returned before."""
        bits, random = next(self._chance)
        wall = self._clock.now().wall
        if wall > self._ms:
            self._begin(wall, bits)
        elif self._counter == _COUNTER_MAX:
            self._begin(self._ms + 1, bits)
        else:
            self._counter += 1
        middle = _MARKS | self._counter << 4 | bits & 3
        return f"{self._time}{_PAIRS[middle >> 10]}{_PAIRS[middle & 1_023]}{random}"

    def _begin(self, ms: int, bits: int) -> None:
        self._ms = ms
        if ms >> 10 != self._high:
            self._high = ms >> 10
            self._head = encode_base32(self._high, length=_TIME_CHARS - 2)
        self._time = self._head + _PAIRS[ms & 1_023]
        self._counter = bits >> 8 * _BITS_BYTES - _SEED_BITS


class SystemRng:
    """Chance from the operating system, or from what stands for it."""

    def __init__(self, entropy: Entropy = secrets.token_bytes) -> None:
        self._entropy = entropy

    def random(self) -> float:
        """Return a float in [0, 1), of 53 random bits."""
        return (int.from_bytes(self._entropy(7)) >> 3) * 2.0**-53
