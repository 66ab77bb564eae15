"""Globs of paths in a repository: which files a task says it will touch.

`*` and `?` stay within a path's segment, `**` stands for any number of whole segments, and a
pattern that ends with `/` means everything below it. Two patterns overlap if some path could
match both: decided on the patterns alone, never by looking at files.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from agentcom.model import errors, limits

_REFUSED: Final = frozenset("[]{}!\\")
"""What other glob languages give a meaning; taken literally it would surprise."""
_FEW: Final = 16_384


def canonical(patterns: Sequence[str], *, field: str = "scope") -> tuple[str, ...]:
    """Return the patterns sorted, without repetition, and written in one way.

    Raises:
        InvalidInput: too many or too long, absolute, or with `..`, `[`, `{`, `!` or a backslash.
    """
    if len(patterns) > limits.SCOPE_GLOBS_MAX:
        raise errors.InvalidInput(field, f"at most {limits.SCOPE_GLOBS_MAX} patterns")
    return tuple(sorted({_checked(pattern, field) for pattern in patterns}))


def overlap(ones: Sequence[str], others: Sequence[str]) -> bool:
    """Return whether some path could match a pattern of each side; both are canonical."""
    return any(_may_meet(one, other) and _meet(one, other) for one in ones for other in others)


def _may_meet(one: str, other: str) -> bool:
    """Return whether what stands before the first wildcards can be the same: a quick no."""
    head, tail = _head(one), _head(other)
    return head.startswith(tail) or tail.startswith(head)


@lru_cache(maxsize=_FEW)
def _head(pattern: str) -> str:
    return pattern[: min(pattern.find(wild) % (len(pattern) + 1) for wild in "*?")]


def covers(patterns: Sequence[str], path: str) -> bool:
    """Return whether a path of the repository matches one of the canonical patterns."""
    # A path is a pattern without wildcards, but for the rare file name that holds one.
    return overlap(patterns, (path,))


def _checked(pattern: str, field: str) -> str:
    text = pattern.removeprefix("./")
    text = f"{text}**" if text.endswith("/") else text
    if not text or len(text) > limits.SCOPE_GLOB_CHARS or not text.isprintable():
        rule = f"1 to {limits.SCOPE_GLOB_CHARS} printable characters"
        raise errors.InvalidInput(field, rule)
    if _REFUSED & set(text):
        raise errors.InvalidInput(field, f"{pattern!r}: only *, ? and ** have a meaning here")
    parts = text.split("/")
    if "" in parts or "." in parts or ".." in parts:
        rule = "a path inside the repository, without an empty part, . or .."
        raise errors.InvalidInput(field, f"{pattern!r}: write {rule}")
    if any("**" in part and part != "**" for part in parts):
        raise errors.InvalidInput(field, f"{pattern!r}: ** stands alone between slashes")
    return text


@lru_cache(maxsize=_FEW)
def _meet(one: str, other: str) -> bool:
    return one == other or _common(one.split("/"), other.split("/"), "**", _segments_meet)


@lru_cache(maxsize=_FEW)
def _segments_meet(one: str, other: str) -> bool:
    return one == other or _common(one, other, "*", _characters_meet)


def _characters_meet(one: str, other: str) -> bool:
    return one == other or "?" in (one, other)


def _common(
    ones: Sequence[str], others: Sequence[str], many: str, meet: Callable[[str, str], bool]
) -> bool:
    """Return whether two patterns can stand for one sequence; `many` stands for any number.

    A table over both: a cell says whether what comes before it can be the same so far.
    """
    row = [True] + [False] * len(others)
    for i in range(len(ones) + 1):
        below = [False] * (len(others) + 1)
        mine = ones[i] if i < len(ones) else ""
        for j in range(len(others) + 1):
            if not row[j]:
                continue
            theirs = others[j] if j < len(others) else ""
            wide = many in (mine, theirs)
            if wide and theirs:
                row[j + 1] = True
            if wide and mine:
                below[j] = True
            if mine and theirs and (wide or meet(mine, theirs)):
                below[j + 1] = True
        if i < len(ones):
            row = below
    return row[-1]
