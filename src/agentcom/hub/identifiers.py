"""Where a running hub's ids and chance come from."""

import secrets
from typing import Final

from agentcom.hub.clock import Clock
from agentcom.model.ids import encode_base32

_TIME_CHARS: Final = 10  # 48 bits, which start an id
_RANDOM_CHARS: Final = 12  # 60 random bits, which end it
_VERSION: Final = 0x7
_VARIANT: Final = 0b10
_COUNTER_BITS: Final = 12  # rand_a of RFC 9562
_SEED_BITS: Final = 11  # a new millisecond starts in the lower half: room for 2,048 more at least
_FETCH_BYTES: Final = 4_096
_PAIRS: Final = tuple(encode_base32(bits, length=2) for bits in range(1_024))
_DIGITS: Final = bytes(ord(_PAIRS[byte & 31][1]) for byte in range(256))
"""A random byte to a random digit: eight bytes come to each."""


class _Chance:
    """Random bytes, also as digits in base 32; many at a time, since each fetch is a system call.

    `take` says from where on they are new.
    """

    def __init__(self) -> None:
        self.bytes = b""
        self.digits = ""
        self._used = 0

    def take(self, count: int) -> int:
        """Return where `count` bytes stand that nobody has used."""
        start = self._used
        if start + count > len(self.bytes):
            self.bytes, start = secrets.token_bytes(_FETCH_BYTES), 0
            self.digits = self.bytes.translate(_DIGITS).decode()
        self._used = start + count
        return start


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
        end = chance.take(1 + _RANDOM_CHARS) + 1
        middle = (_VERSION << _COUNTER_BITS | self._counter) << 4 | _VARIANT << 2
        middle |= chance.bytes[end - 1] & 3
        random = chance.digits[end : end + _RANDOM_CHARS]
        return f"{self._time}{_PAIRS[middle >> 10]}{_PAIRS[middle & 1_023]}{random}"

    def _begin(self, ms: int) -> None:
        self._ms = ms
        self._time = encode_base32(ms, length=_TIME_CHARS)
        chance = self._chance
        start = chance.take(2)
        self._counter = int.from_bytes(chance.bytes[start : start + 2]) >> 16 - _SEED_BITS


class SystemRng:
    """Chance from the operating system."""

    def __init__(self) -> None:
        self._source = secrets.SystemRandom()

    def random(self) -> float:
        """Return a float in [0, 1)."""
        return self._source.random()
