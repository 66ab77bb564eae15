"""What a task needs and what an agent offers, as small values that compare fast.

A requirement is written `gpu`, `os=linux`, `repo!=api`, `python>=3.11` or `lang in (go,rust)`;
a capability `gpu` or `python=3.11`. Only parsing refuses; inside, the values are trusted.
"""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import islice
from typing import Final, assert_never

import msgspec

from agentcom.model import errors

PROMPT: Final = "prompt"
"""The capability of agents that follow prompts; a task without a command needs it."""
CAPABILITIES_MAX: Final = 64
"""Entries per task or agent: bounds what one new shape or class costs the matcher."""
CAPABILITY_CHARS_MAX: Final = 64
"""Characters of one requirement or capability: they are shown in one line of a table."""

_NAME: Final = r"[a-z0-9][a-z0-9._:/+-]*"
# A value may hold "=" but not begin with it, so that the slip "os==linux" is caught.
_VALUE: Final = r"[a-z0-9._:/+-][a-z0-9._:/=+-]*"
_COMPARISON: Final = re.compile(rf"({_NAME})(?: *(!=|>=|<=|=|>|<) *({_VALUE}))?")
# Spaces around "in" are required: the canonical text is never longer than what was written.
_MEMBERSHIP: Final = re.compile(rf"({_NAME}) +in +\( *({_VALUE}(?: *, *{_VALUE})*) *\)")
_CAPABILITY: Final = re.compile(rf"({_NAME})(?:=({_VALUE}))?")
_VERSION: Final = re.compile(
    r"(?:v(?=[0-9]+\.))?([0-9]+(?:\.[0-9]+)*)"
    r"(?:[-._]?(dev|alpha|a|beta|b|pre|rc|c)[-._]?([0-9]+))?(?:\+[a-z0-9._-]+)?"
)
_STAGES: Final = ("dev", "a", "b", "c")  # `alpha`, `beta`, `pre` and `rc` are words for them
_FINAL: Final = (len(_STAGES), 0)


class Op(StrEnum):
    """How a requirement compares an agent's value with its own."""

    EXISTS = "exists"
    EQUAL = "="
    NOT_EQUAL = "!="
    GREATER = ">"
    AT_LEAST = ">="
    LESS = "<"
    AT_MOST = "<="
    IN = "in"


class Requirement(msgspec.Struct, frozen=True, gc=False, order=True, cache_hash=True):
    """One condition on an agent's capabilities; `value` of `in` is a sorted list with commas."""

    name: str
    op: Op
    value: str = ""

    def __str__(self) -> str:
        """Return the canonical text, which parses to an equal requirement."""
        match self.op:
            case Op.EXISTS:
                return self.name
            case Op.IN:
                return f"{self.name} in ({self.value})"
            case _:
                return f"{self.name}{self.op.value}{self.value}"


class Capability(msgspec.Struct, frozen=True, gc=False, order=True, cache_hash=True):
    """One thing an agent offers; a name may occur with several values."""

    name: str
    value: str = ""

    def __str__(self) -> str:
        """Return the canonical text, which parses to an equal capability."""
        return f"{self.name}={self.value}" if self.value else self.name


def parse_requirement(text: str, *, field: str = "needs") -> Requirement:
    """Return the requirement that `text` states.

    Raises:
        InvalidInput: it is too long, or not of the form that the module's docstring shows.
    """
    _check_length(text, field)
    if comparison := _COMPARISON.fullmatch(text):
        name, op, value = comparison.groups()
        return Requirement(name, Op(op), value) if op else Requirement(name, Op.EXISTS)
    if membership := _MEMBERSHIP.fullmatch(text):
        members = sorted({member.strip() for member in membership[2].split(",")})
        op = Op.IN if len(members) > 1 else Op.EQUAL
        return Requirement(membership[1], op, ",".join(members))
    raise errors.InvalidInput(
        field, "write name, name=value, name!=value, name>=1.2 or name in (a,b), in lower case"
    )


def parse_capability(text: str, *, field: str = "capabilities") -> Capability:
    """Return the capability that `text` states.

    Raises:
        InvalidInput: it is too long, or neither `name` nor `name=value`.
    """
    _check_length(text, field)
    found = _CAPABILITY.fullmatch(text)
    if found is None:
        raise errors.InvalidInput(field, "write name or name=value, of a-z 0-9 . _ : / + -")
    return Capability(found[1], found[2] or "")


def canonical(needs: Iterable[str], *, field: str = "needs") -> tuple[Requirement, ...]:
    """Return the requirements sorted and without repetition: equal needs are equal tuples.

    Raises:
        InvalidInput: there are too many, or one is malformed; the field names its index.
    """
    numbered = enumerate(_bounded(needs, field))
    return tuple(sorted({parse_requirement(t, field=f"{field}[{i}]") for i, t in numbered}))


def canonical_capabilities(
    texts: Iterable[str], *, field: str = "capabilities"
) -> tuple[Capability, ...]:
    """Return the capabilities sorted and without repetition: equal offers are equal tuples.

    Raises:
        InvalidInput: there are too many, or one is malformed; the field names its index.
    """
    numbered = enumerate(_bounded(texts, field))
    return tuple(sorted({parse_capability(t, field=f"{field}[{i}]") for i, t in numbered}))


def satisfies(capabilities: Iterable[Capability], requirement: Requirement) -> bool:
    """Return whether an agent with `capabilities` meets `requirement`."""
    values = [offer.value for offer in capabilities if offer.name == requirement.name]
    return holds(values, requirement)


def holds(values: Sequence[str], requirement: Requirement) -> bool:
    """Return whether the values offered under the requirement's name meet it.

    Any value may meet it; only `!=` looks at all of them: none may be equal.
    """
    wanted = requirement.value
    match requirement.op:
        case Op.EXISTS:
            return bool(values)
        case Op.EQUAL:
            return any(_equal(value, wanted) for value in values)
        case Op.NOT_EQUAL:
            return not any(_equal(value, wanted) for value in values)
        case Op.IN:
            members = wanted.split(",")
            return any(_equal(value, member) for value in values for member in members)
        case Op.GREATER | Op.AT_LEAST | Op.LESS | Op.AT_MOST as ordering:
            return any(_ordered(value, ordering, wanted) for value in values)
        case _ as never:
            assert_never(never)


def _ordered(value: str, op: Op, wanted: str) -> bool:
    left, right = _version(value), _version(wanted)
    if left is None or right is None:
        return False
    if left == right:
        return op in (Op.AT_LEAST, Op.AT_MOST)
    return (left > right) == (op in (Op.GREATER, Op.AT_LEAST))


def _equal(value: str, wanted: str) -> bool:
    if value == wanted:
        return True
    left = _version(value)
    return left is not None and left == _version(wanted)


def _version(text: str) -> tuple[tuple[int, ...], tuple[int, int]] | None:
    """Return a version's numbers and how far it is from the release, by PEP 440's order."""
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    # 3.11 and 3.11.0 are the same version.
    numbers = [int(part) for part in found[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    if found[2] is None:
        return tuple(numbers), _FINAL
    stage = {"alpha": "a", "beta": "b", "pre": "c", "rc": "c"}.get(found[2], found[2])
    return tuple(numbers), (_STAGES.index(stage), int(found[3]))


def _check_length(text: str, field: str) -> None:
    if len(text) > CAPABILITY_CHARS_MAX:
        raise errors.InvalidInput(field, f"use at most {CAPABILITY_CHARS_MAX} characters")


def _bounded(texts: Iterable[str], field: str) -> list[str]:
    taken = list(islice(texts, CAPABILITIES_MAX + 1))
    if len(taken) > CAPABILITIES_MAX:
        raise errors.InvalidInput(field, f"give at most {CAPABILITIES_MAX}")
    return taken
