"""How people declare a check: as a line, or as a table in `.agentcom.toml`.

    pytest -q                                a command: good if its exit code is 0
    tests:pytest -q                          its summary counts too: none failed, one passed
    exists:docs/*.md                         a file of each glob must be there
    absent:**/*.orig                         no file of any glob may be there
    diff:files=20 lines=500 allow=src/**     bounds of what is changed
    secrets:diff                             nothing that looks like a secret is added

A command is split like a shell's words but never run by one.
"""

import difflib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from agentcom.model import errors, globs, limits
from agentcom.model.numerals import whole
from agentcom.model.verification import Check, CheckKind, DiffLimits

FILE_NAME: Final = ".agentcom.toml"
CHECK_TIMEOUT_MAX_MS: Final = 4 * 3_600_000
"""A check that takes longer belongs into the repository's own CI."""
MEMORY_MIN_BYTES: Final = 16 << 20
"""With less no program starts, and every check would fail for that alone."""
OUTPUT_MAX_BYTES: Final = 64 << 10
"""A report travels in one frame."""
TESTS_MAX: Final = 10_000_000

_NAME_CHARACTERS: Final = 80
_OPTIONS: Final = ("name", "timeout", "memory", "output")
_COUNT: Final = "at_least"
_KINDS: Final = ("run", *(kind.value for kind in CheckKind if kind is not CheckKind.COMMAND))
KEYS: Final = (*_KINDS, *_OPTIONS, _COUNT)
"""What a table may hold: exactly one of the kinds, and bounds of what it runs."""
_DIFF_KEYS: Final = ("files", "lines", "allow", "forbid")
_DURATION: Final = re.compile(r"([1-9][0-9]{0,6})(s|m|h)")
_UNIT_MS: Final[Mapping[str, int]] = {"s": 1_000, "m": 60_000, "h": 3_600_000}
_SIZE: Final = re.compile(r"([1-9][0-9]{0,6})(K|M|G)")
_UNIT_BYTES: Final[Mapping[str, int]] = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_PREFIX: Final = re.compile(r"([a-z_-]{3,12}):(?!//)(.*)", re.DOTALL)
_OPERATORS: Final = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1", "2>"})
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_ALIKE: Final = 0.75
"""How near a word before a colon must come to a kind of check to be a slip, not a command."""

replace: Final = msgspec.structs.replace


class ProjectFileInvalid(errors.InvalidInput):
    """`.agentcom.toml` says something that is not understood; nothing of it is used."""

    code: ClassVar[str] = "project_file_invalid"

    def __init__(self, where: str, rule: str) -> None:
        super().__init__(f"{FILE_NAME}: {where}" if where else FILE_NAME, rule)


def of_line(where: str, text: str) -> Check:
    """Return the check that a line means; its name is the line itself.

    Raises:
        ProjectFileInvalid: it is empty, needs a shell, or has an unknown kind or bound.
    """
    name = text.strip()[:_NAME_CHARACTERS]
    match = _PREFIX.fullmatch(text.strip())
    if match is None:
        return Check(name, _argv(where, text))
    word, rest = match[1], match[2].strip()
    known = _KINDS[1:]
    if word not in known:
        close = difflib.get_close_matches(word, known, n=1, cutoff=_ALIKE)
        if not close:
            return Check(name, _argv(where, text))
        raise ProjectFileInvalid(where, f"unknown kind {word!r}; did you mean {close[0]!r}?")
    return _OF_LINE[CheckKind(word)](where, name, rest)


def of_table(where: str, table: Mapping[str, Any]) -> Check:
    """Return the check that a table means.

    Raises:
        ProjectFileInvalid: an unknown key, an impossible value, or not exactly one kind.
    """
    check_keys(where, table, KEYS)
    kinds = [key for key in table if key in _KINDS]
    if len(kinds) != 1:
        raise ProjectFileInvalid(where, f"exactly one of {', '.join(_KINDS)}")
    check = _of_kind(where, kinds[0], table[kinds[0]])
    if not check.kind.runs:
        check_keys(where, table, (kinds[0], "name"))
    if "name" in table:
        name = table["name"]
        if not isinstance(name, str) or not name.strip():
            raise ProjectFileInvalid(f"{where}.name", "a text")
        check = replace(check, name=name.strip()[:_NAME_CHARACTERS])
    return _bounded(where, check, table)


def check_keys(where: str, found: Mapping[str, object], known: Sequence[str]) -> None:
    """Refuse a key that is not known; raises `ProjectFileInvalid` with the nearest one."""
    for key in found:
        if key in known:
            continue
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        raise ProjectFileInvalid(where, f"unknown key {key!r}; {hint}")


def _of_kind(where: str, kind: str, value: object) -> Check:
    place = f"{where}.{kind}"
    if kind in {"run", CheckKind.TESTS}:
        if not isinstance(value, str):
            raise ProjectFileInvalid(where, f"`{kind}` must be a command")
        name = value.strip()[:_NAME_CHARACTERS]
        known = CheckKind.TESTS if kind == CheckKind.TESTS else CheckKind.COMMAND
        return Check(name, _argv(where, value), kind=known)
    if kind == CheckKind.SECRETS:
        if value is not True:
            raise ProjectFileInvalid(place, "true")
        return Check("secrets", kind=CheckKind.SECRETS)
    if kind == CheckKind.DIFF:
        if not isinstance(value, Mapping):
            raise ProjectFileInvalid(place, "a table like { files = 20, allow = ['src/**'] }")
        return Check("diff", kind=CheckKind.DIFF, diff=_diff(place, value))
    name = f"{kind}:{value if isinstance(value, str) else ' '.join(map(str, _listed(value)))}"
    paths = _globs(place, value)
    return Check(name[:_NAME_CHARACTERS], kind=CheckKind(kind), paths=paths)


def _line_of_tests(where: str, name: str, rest: str) -> Check:
    return Check(name, _argv(where, rest), kind=CheckKind.TESTS)


def _line_of_paths(kind: CheckKind) -> Callable[[str, str, str], Check]:
    return lambda where, name, rest: Check(
        name, kind=kind, paths=_globs(where, _words(where, rest))
    )


def _line_of_diff(where: str, name: str, rest: str) -> Check:
    table: dict[str, Any] = {}
    for word in _words(where, rest):
        key, _, value = word.partition("=")
        check_keys(where, {key: value}, _DIFF_KEYS)
        if key in {"allow", "forbid"}:
            table[key] = [*table.get(key, ()), *value.split(",")]
        else:
            number = whole(value)
            table[key] = value if number is None else number
    return Check(name, kind=CheckKind.DIFF, diff=_diff(where, table))


def _line_of_secrets(where: str, name: str, rest: str) -> Check:
    if rest != "diff":
        raise ProjectFileInvalid(where, "write `secrets:diff`: it looks at what is added")
    return Check(name, kind=CheckKind.SECRETS)


_OF_LINE: Final[Mapping[CheckKind, Callable[[str, str, str], Check]]] = {
    CheckKind.TESTS: _line_of_tests,
    CheckKind.EXISTS: _line_of_paths(CheckKind.EXISTS),
    CheckKind.ABSENT: _line_of_paths(CheckKind.ABSENT),
    CheckKind.DIFF: _line_of_diff,
    CheckKind.SECRETS: _line_of_secrets,
}


def _bounded(where: str, check: Check, table: Mapping[str, Any]) -> Check:
    if "timeout" in table:
        check = replace(check, timeout_ms=_timeout_ms(f"{where}.timeout", table["timeout"]))
    if "memory" in table:
        size = _size_bytes(f"{where}.memory", table["memory"])
        if size < MEMORY_MIN_BYTES:
            raise ProjectFileInvalid(f"{where}.memory", "at least 16M: no program starts with less")
        check = replace(check, memory_bytes=size)
    if "output" in table:
        size = _size_bytes(f"{where}.output", table["output"])
        if size > OUTPUT_MAX_BYTES:
            raise ProjectFileInvalid(f"{where}.output", "at most 64K: a report is one frame")
        check = replace(check, output_bytes=size)
    if _COUNT in table:
        if check.kind is not CheckKind.TESTS:
            raise ProjectFileInvalid(where, f"`{_COUNT}` goes with `tests`")
        check = replace(check, tests_min=_number(f"{where}.{_COUNT}", table[_COUNT], TESTS_MAX))
    return check


def _argv(where: str, command: str) -> tuple[str, ...]:
    if len(command.encode()) > limits.COMMAND_BYTES or "\0" in command:
        raise ProjectFileInvalid(where, f"at most {limits.COMMAND_BYTES} bytes, none of them zero")
    argv = tuple(_words(where, command))
    if not argv:
        raise ProjectFileInvalid(where, "an empty command")
    operator = next((word for word in argv if word in _OPERATORS or word.endswith("&&")), None)
    if operator is not None:
        rule = f"no shell runs it, so {operator!r} has no meaning: give a list of commands"
        raise ProjectFileInvalid(where, f"{rule}, or sh -c '...'")
    if _ASSIGNMENT.match(argv[0]):
        raise ProjectFileInvalid(where, f"no shell runs it: write `env {command.strip()}`")
    return argv


def _words(where: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ProjectFileInvalid(where, f"{str(error).lower()} in {text!r}") from error


def _diff(where: str, table: Mapping[str, Any]) -> DiffLimits:
    check_keys(where, table, _DIFF_KEYS)
    if not table:
        raise ProjectFileInvalid(where, f"at least one of {', '.join(_DIFF_KEYS)}")

    def number(key: str) -> int | None:
        return _number(f"{where}.{key}", table[key], 1 << 31) if key in table else None

    def patterns(key: str) -> tuple[str, ...]:
        return _globs(f"{where}.{key}", table[key]) if key in table else ()

    return DiffLimits(
        files=number("files"),
        lines=number("lines"),
        allow=patterns("allow"),
        forbid=patterns("forbid"),
    )


def _globs(where: str, value: object) -> tuple[str, ...]:
    listed = _listed(value)
    if not listed or not all(isinstance(one, str) for one in listed):
        raise ProjectFileInvalid(where, "a glob, or a list of globs")
    try:
        return globs.canonical([str(one) for one in listed])
    except errors.InvalidInput as error:
        raise ProjectFileInvalid(where, error.rule) from None


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]


def _number(where: str, value: object, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ProjectFileInvalid(where, "a whole number from 0")
    return value


def _timeout_ms(where: str, value: object) -> int:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        duration_ms = int(match[1]) * _UNIT_MS[match[2]]
    elif isinstance(value, int) and not isinstance(value, bool):
        duration_ms = value * 1_000
    else:
        raise ProjectFileInvalid(where, 'seconds, or a text like "90s" or "10m"')
    if not 0 < duration_ms <= CHECK_TIMEOUT_MAX_MS:
        raise ProjectFileInvalid(where, "more than 0 and at most 4h")
    return duration_ms


def _size_bytes(where: str, value: object) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ProjectFileInvalid(where, 'a text like "64K", "512M" or "2G"')
    return int(match[1]) * _UNIT_BYTES[match[2]]
