"""Identifiers and the two kinds of time.

Ids are UUIDv7 (RFC 9562) in lower-case Crockford base 32, so they sort by creation and can be
shown by their last six characters. Names that people choose (agents, machines, users) are ids too.
"""

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple, NewType, Protocol

import msgspec

from agentcom.model import errors

TaskId = NewType("TaskId", str)
AgentId = NewType("AgentId", str)
AccountId = NewType("AccountId", str)
MachineId = NewType("MachineId", str)
UserId = NewType("UserId", str)
ProjectId = NewType("ProjectId", str)
PoolId = NewType("PoolId", str)
BatchId = NewType("BatchId", str)
CauseId = NewType("CauseId", str)
RequestKey = NewType("RequestKey", str)

Instant = NewType("Instant", int)
"""Milliseconds on a monotonic clock that goes on in sleep (CLOCK_BOOTTIME). Never stored."""

WallTime = NewType("WallTime", int)
"""UTC milliseconds since the Unix epoch. Stored and shown; never used to measure a lease."""


def utc(at: WallTime) -> str:
    """Return a time in words, to the second."""
    return f"{datetime.fromtimestamp(at / 1_000, UTC):%Y-%m-%d %H:%M:%S} UTC"


DEFAULT_PROJECT: Final = ProjectId("default")
DEFAULT_POOL: Final = PoolId("default")

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"
_NAME: Final = re.compile(NAME_PATTERN)
_RESERVED: Final = frozenset({"admin", "agentcom", "all", "hub", "system", "operator", "root"})
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)


class Now(NamedTuple):
    """Both clocks, read once per turn."""

    instant: Instant
    wall: WallTime


class Fence(msgspec.Struct, frozen=True, order=True, gc=False, array_like=True):
    """The right to act for one attempt; compared with the task's row on every report."""

    incarnation: int
    attempt: int


class IdSource(Protocol):
    """Where new ids come from; injected, so that a run can be repeated."""

    def new(self) -> str:
        """Return an id that sorts after every id returned before."""
        ...


class Rng(Protocol):
    """Where chance comes from; injected, so that a run can be repeated."""

    def random(self) -> float:
        """Return a float in [0, 1)."""
        ...


def encode_base32(value: int, *, length: int) -> str:
    """Return `value` as exactly `length` Crockford base 32 digits."""
    pairs = [_PAIRS[value >> shift & 1_023] for shift in range(10 * (length // 2) - 10, -10, -10)]
    if length % 2:
        pairs.insert(0, _ALPHABET[value >> 5 * (length - 1) & 31])
    return "".join(pairs)


def check_name(name: str) -> str:
    """Return `name` if people may give it to an agent, a machine or a user.

    Raises:
        InvalidInput: it has other characters than a-z, 0-9 and hyphen, or is reserved.
    """
    if _NAME.fullmatch(name) is None or name in _RESERVED:
        raise errors.InvalidInput("name", "use 1-63 of a-z, 0-9 and -, and no reserved word")
    return name


def short(identifier: str) -> str:
    """Return the part of an id that people see."""
    return identifier[-6:]
