"""Where a running hub's ids and chance come from."""

import secrets
from typing import Final

from agentcom.hub.clock import Clock
from agentcom.model.ids import encode_base32

_TIME_CHARS: Final = 10  # 48 bits, which start an id
_HEAD_CHARS: Final = 4  # version, counter, variant, and the first two random bits
_RANDOM_CHARS: Final = 12  # 60 random bits end it
_VERSION: Final = 0x7
_VARIANT: Final = 0b10
_COUNTER_BITS: Final = 12  # rand_a of RFC 9562
_SEED_BITS: Final = 11  # a new millisecond starts in the lower half: room for 2,048 more at least
_FETCH_BYTES: Final = 4_096
_DIGITS: Final = bytes(ord(encode_base32(byte & 31, length=2)[1]) for byte in range(256))
"""A random byte to a random digit: each has eight bytes."""


class _Chance:
    """Chance of the operating system, fetched much at a time: each fetch is a system call."""

    def __init__(self) -> None:
        self._bytes = b""
        self._digits = ""
        self._used = 0

    def digits(self, count: int) -> str:
        """Return random digits in base 32."""
        start = self._take(count)
        return self._digits[start : self._used]

    def bits(self, count: int) -> int:
        """Return up to 16 random bits."""
        start = self._take(2)
        return int.from_bytes(self._bytes[start : self._used]) >> 16 - count

    def _take(self, count: int) -> int:
        if self._used + count > len(self._bytes):
            self._bytes, self._used = secrets.token_bytes(_FETCH_BYTES), 0
            self._digits = self._bytes.translate(_DIGITS).decode()
        self._used += count
        return self._used - count


class UuidIds:
    """UUIDv7 (RFC 9562, 6.2 method 1) as base 32; each sorts after the one before.

    That holds within the process also when the wall clock is set back, or when one millisecond
    needs more ids than the counter has: then the ids run ahead of the clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._chance = _Chance()
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
        chance = self._chance
        head = (_VERSION << _COUNTER_BITS | self._counter) << 4 | _VARIANT << 2 | chance.bits(2)
        return self._time + encode_base32(head, length=_HEAD_CHARS) + chance.digits(_RANDOM_CHARS)

    def _begin(self, ms: int) -> None:
        self._ms = ms
        self._time = encode_base32(ms, length=_TIME_CHARS)
        self._counter = self._chance.bits(_SEED_BITS)


class SystemRng:
    """Chance from the operating system."""

    def __init__(self) -> None:
        self._source = secrets.SystemRandom()

    def random(self) -> float:
        """Return a float in [0, 1)."""
        return self._source.random()
