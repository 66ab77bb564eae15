"""`.agentcom.toml`: how a repository wants its work checked and landed.

    verify = ["ruff check .", { name = "tests", run = "pytest -q", timeout = "10m" }]
    setup = "uv sync --frozen"
    land = "merge"

Commands are split like a shell's words but never run by one. Read from the base, never from an
agent's branch.
"""

import difflib
import re
import shlex
import tomllib
from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec

from agentcom.model import errors, limits
from agentcom.model.task import LandPolicy
from agentcom.model.verification import Check

FILE_NAME: Final = ".agentcom.toml"
FILE_BYTES_MAX: Final = 65_536
"""A page of settings; more is not written by a person."""
CHECK_TIMEOUT_MAX_MS: Final = 4 * 3_600_000
"""A check that takes longer belongs into the repository's own CI."""

_NAME_CHARACTERS: Final = 80
_KEYS: Final = ("verify", "setup", "land")
_COMMAND_KEYS: Final = ("name", "run", "timeout")
_DURATION: Final = re.compile(r"([1-9][0-9]{0,6})(s|m|h)")
_UNIT_MS: Final[Mapping[str, int]] = {"s": 1_000, "m": 60_000, "h": 3_600_000}
_OPERATORS: Final = frozenset({"&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1", "2>"})
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


class ProjectFileInvalid(errors.InvalidInput):
    """`.agentcom.toml` says something that is not understood; nothing of it is used."""

    code: ClassVar[str] = "project_file_invalid"

    def __init__(self, where: str, rule: str) -> None:
        super().__init__(f"{FILE_NAME}: {where}" if where else FILE_NAME, rule)


class ProjectFile(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the file says; without one, all defaults."""

    verify: tuple[Check, ...] = ()
    setup: tuple[Check, ...] = ()
    """Runs before the checks, in the same clean worktree."""
    land: LandPolicy = LandPolicy.BRANCH


def parse_project_file(text: str) -> ProjectFile:
    """Return what `text` says.

    Raises:
        ProjectFileInvalid: it is no TOML, or has an unknown key or an impossible value.
    """
    if len(text.encode()) > FILE_BYTES_MAX:
        raise ProjectFileInvalid("", f"at most {FILE_BYTES_MAX} bytes")
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProjectFileInvalid("", f"not valid TOML: {error}") from error
    _check_keys("", found, _KEYS)
    return ProjectFile(
        verify=_commands("verify", found.get("verify", [])),
        setup=_commands("setup", found.get("setup", [])),
        land=_land(found.get("land", LandPolicy.BRANCH.value)),
    )


def parse_command(text: str) -> Check:
    """Return the check that a task's own command line means; its name is the command itself.

    Raises:
        InvalidInput: it is empty, has an open quote, or needs a shell.
    """
    try:
        return _plain("verify", text)
    except ProjectFileInvalid as error:
        raise errors.InvalidInput("verify", error.rule) from None


def _commands(where: str, value: object) -> tuple[Check, ...]:
    listed = value if isinstance(value, list) else [value]
    if len(listed) > limits.VERIFY_COMMANDS_MAX:
        raise ProjectFileInvalid(where, f"at most {limits.VERIFY_COMMANDS_MAX} commands")
    if listed is not value:
        return (_command(where, value),)
    return tuple(_command(f"{where}[{number}]", entry) for number, entry in enumerate(listed))


def _plain(where: str, text: str) -> Check:
    return Check(text.strip()[:_NAME_CHARACTERS], _argv(where, text))


def _command(where: str, value: object) -> Check:
    if isinstance(value, str):
        return _plain(where, value)
    if not isinstance(value, dict):
        raise ProjectFileInvalid(where, 'a command, or a table like { run = "pytest" }')
    _check_keys(where, value, _COMMAND_KEYS)
    run, name = value.get("run"), value.get("name", value.get("run"))
    if not isinstance(run, str) or not isinstance(name, str) or not name.strip():
        raise ProjectFileInvalid(where, "`run` must be a command; `name` a text, if it is given")
    check = Check(name.strip()[:_NAME_CHARACTERS], _argv(where, run))
    if "timeout" not in value:
        return check
    return msgspec.structs.replace(check, timeout_ms=_timeout_ms(where, value["timeout"]))


def _argv(where: str, command: str) -> tuple[str, ...]:
    if len(command.encode()) > limits.COMMAND_BYTES or "\0" in command:
        raise ProjectFileInvalid(where, f"at most {limits.COMMAND_BYTES} bytes, none of them zero")
    try:
        argv = tuple(shlex.split(command))
    except ValueError as error:
        raise ProjectFileInvalid(where, f"{str(error).lower()} in {command!r}") from error
    if not argv:
        raise ProjectFileInvalid(where, "an empty command")
    operator = next((word for word in argv if word in _OPERATORS or word.endswith("&&")), None)
    if operator is not None:
        rule = f"no shell runs it, so {operator!r} has no meaning: give a list of commands"
        raise ProjectFileInvalid(where, f"{rule}, or sh -c '...'")
    if _ASSIGNMENT.match(argv[0]):
        raise ProjectFileInvalid(where, f"no shell runs it: write `env {command.strip()}`")
    return argv


def _timeout_ms(where: str, value: object) -> int:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is not None:
        duration_ms = int(match[1]) * _UNIT_MS[match[2]]
    elif isinstance(value, int) and not isinstance(value, bool):
        duration_ms = value * 1_000
    else:
        raise ProjectFileInvalid(f"{where}.timeout", 'seconds, or a text like "90s" or "10m"')
    if not 0 < duration_ms <= CHECK_TIMEOUT_MAX_MS:
        raise ProjectFileInvalid(f"{where}.timeout", "more than 0 and at most 4h")
    return duration_ms


def _land(value: object) -> LandPolicy:
    policies = {policy.value: policy for policy in LandPolicy}
    if not isinstance(value, str) or value not in policies:
        raise ProjectFileInvalid("land", " or ".join(f'"{known}"' for known in policies))
    return policies[value]


def _check_keys(where: str, found: Mapping[str, object], known: tuple[str, ...]) -> None:
    for key in found:
        if key in known:
            continue
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        raise ProjectFileInvalid(where, f"unknown key {key!r}; {hint}")
