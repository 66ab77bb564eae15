"""Where a running hub's ids and chance come from."""

import secrets
from typing import Final

from agentcom.hub.clock import Clock
from agentcom.model.ids import encode_base32

ID_CHARS: Final = 26  # 128 bits in base 32
_TIME_CHARS: Final = 10  # the 48 bits of the time, which many ids share
_VERSION: Final = 0x7
_VARIANT: Final = 0b10
_COUNTER_BITS: Final = 12  # rand_a of RFC 9562
_SEED_BITS: Final = 11  # a new millisecond starts in the lower half: room for 2,048 more at least
_RANDOM_BITS: Final = 62  # rand_b
_FETCH_BYTES: Final = 4_096


class _RandomBits:
    """Bits of the operating system, fetched many at a time: each fetch is a system call."""

    def __init__(self) -> None:
        self._bytes = b""
        self._used = 0

    def take(self, bits: int) -> int:
        """Return `bits` random bits, at most 64."""
        if self._used >= len(self._bytes):
            self._bytes, self._used = secrets.token_bytes(_FETCH_BYTES), 0
        start = self._used
        self._used += 8
        return int.from_bytes(self._bytes[start : start + 8]) >> (64 - bits)


class UuidIds:
    """UUIDv7 (RFC 9562, 6.2 method 1) as base 32; each sorts after the one before.

    That holds within the process also when the wall clock is set back, or when one millisecond
    needs more ids than the counter has: then the ids run ahead of the clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._random = _RandomBits()
        self._ms = 0
        self._time = ""
        self._counter = 0

    def new(self) -> str:
        """Return an id that sorts after every id returned before."""
        wall = self._clock.now().wall
        if wall > self._ms:
            self._begin(wall)
        elif self._counter + 1 >> _COUNTER_BITS:
            self._begin(self._ms + 1)
        else:
            self._counter += 1
        middle = (_VERSION << _COUNTER_BITS | self._counter) << 2 | _VARIANT
        tail = middle << _RANDOM_BITS | self._random.take(_RANDOM_BITS)
        return self._time + encode_base32(tail, length=ID_CHARS - _TIME_CHARS)

    def _begin(self, ms: int) -> None:
        self._ms = ms
        self._time = encode_base32(ms, length=_TIME_CHARS)
        self._counter = self._random.take(_SEED_BITS)


class SystemRng:
    """Chance from the operating system."""

    def __init__(self) -> None:
        self._source = secrets.SystemRandom()

    def random(self) -> float:
        """Return a float in [0, 1)."""
        return self._source.random()
