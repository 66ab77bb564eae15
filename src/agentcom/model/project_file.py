"""`.agentcom.toml`: how a repository wants its work prepared, checked and landed.

    verify = ["ruff check .", { tests = "pytest -q", timeout = "10m" }, "absent:**/*.orig"]
    setup = "npm ci"
    land = "queue"
    corrections = 2
    env = { NODE_ENV = "test" }
    pass_env = ["JAVA_HOME"]

    [cache]
    paths = ["node_modules"]
    key = ["package-lock.json"]

    [scopes]
    shop = ["src/shop/**", "tests/shop/**"]

Commands are split like a shell's words but never run by one. Read from the base, never from an
agent's branch.
"""

import re
import tomllib
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from agentcom.model import declaring, errors, globs, limits
from agentcom.model.declaring import FILE_NAME, ProjectFileInvalid
from agentcom.model.task import LandPolicy
from agentcom.model.verification import Check, CheckKind

__all__ = ["FILE_NAME", "ProjectFile", "ProjectFileInvalid", "parse_command", "parse_project_file"]

FILE_BYTES_MAX: Final = 65_536
"""A page of settings; more is not written by a person."""
PATHS_MAX: Final = 32
"""Of a cache, or of its key: a build has a handful of either."""
VARIABLES_MAX: Final = 64
VALUE_CHARS_MAX: Final = 4_096
SCOPES_MAX: Final = 100

KEYS: Final = (
    *("verify", "setup", "land", "corrections"),
    *("env", "pass_env", "cache", "scopes", "submodules", "lfs"),
)
CACHE_KEYS: Final = ("paths", "key")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SCOPE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_OURS: Final = re.compile(
    r"PATH|HOME|TMPDIR|SHELL|IFS|ENV|BASH_ENV|(?:LD|DYLD|GIT|SSH|AGENTCOM)_.*", re.IGNORECASE
)
"""What decides which programs run, and as whom; set by nobody but the machine."""
_SECRET: Final = re.compile(
    r".*(?:TOKEN|SECRET|PASSW|CREDENTIAL|PRIVATE|AUTH|COOKIE|SESSION|(?:^|_)KEY(?:$|_)|APIKEY"
    r"|_PAT$|DSN|(?:DATABASE|REDIS|MONGO)\w*_UR[IL]).*",
    re.IGNORECASE,
)
"""Names under which people keep what must not be read by agents."""


E = TypeVar("E", bound=StrEnum)


class Submodules(StrEnum):
    """What becomes of a repository's submodules."""

    FETCH = "fetch"
    EMPTY = "empty"
    """Their folders stay empty."""


class Lfs(StrEnum):
    """What becomes of files that Git LFS keeps."""

    FETCH = "fetch"
    POINTERS = "pointers"
    """A pointer lies in the place of each."""


class CachedPaths(msgspec.Struct, frozen=True, kw_only=True):
    """What set-up makes, and the files that decide what it makes."""

    paths: tuple[str, ...] = ()
    key: tuple[str, ...] = ()


class ProjectFile(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the file says; without one, all defaults."""

    verify: tuple[Check, ...] = ()
    setup: tuple[Check, ...] = ()
    """Runs before the agent and before the checks, in the folder of each."""
    land: LandPolicy = LandPolicy.BRANCH
    env: dict[str, str] = {}
    """Variables of set-up, agent and checks."""
    pass_env: tuple[str, ...] = ()
    """Names of variables that they get from the machine, where it has them."""
    cache: CachedPaths = CachedPaths()
    scopes: dict[str, tuple[str, ...]] = {}
    """Globs by a name that tasks may use for them."""
    corrections: int = limits.CORRECTIONS
    """How often an agent whose work fails its checks is shown the report and goes on."""
    submodules: Submodules = Submodules.FETCH
    lfs: Lfs = Lfs.FETCH


def parse_project_file(text: str) -> ProjectFile:
    """Return what `text` says.

    Raises:
        ProjectFileInvalid: it is no TOML, or has an unknown key or an impossible value.
    """
    if len(text.encode("utf-8", "replace")) > FILE_BYTES_MAX:
        raise ProjectFileInvalid("", f"at most {FILE_BYTES_MAX} bytes")
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise ProjectFileInvalid("", "not valid TOML: nested too deeply") from None
    except ValueError as error:  # also of a number with thousands of digits
        raise ProjectFileInvalid("", f"not valid TOML: {error}") from error
    declaring.check_keys("", found, KEYS)
    return ProjectFile(
        verify=_checks("verify", found.get("verify", [])),
        setup=_commands("setup", found.get("setup", [])),
        land=_choice("land", found.get("land", "branch"), LandPolicy),
        corrections=_corrections(found.get("corrections", limits.CORRECTIONS)),
        env=_variables(found.get("env", {})),
        pass_env=_passed(found.get("pass_env", [])),
        cache=_cache(found.get("cache", {})),
        scopes=_scopes(found.get("scopes", {})),
        submodules=_choice("submodules", found.get("submodules", "fetch"), Submodules),
        lfs=_choice("lfs", found.get("lfs", "fetch"), Lfs),
    )


def parse_command(text: str) -> Check:
    """Return the check that a task's own line means; its name is the line itself.

    Raises:
        InvalidInput: it is empty, has an open quote, needs a shell, or has an unknown kind.
    """
    try:
        return declaring.of_line("verify", text)
    except ProjectFileInvalid as error:
        raise errors.InvalidInput("verify", error.rule) from None


def _commands(where: str, value: object) -> tuple[Check, ...]:
    found = _checks(where, value)
    for check in found:
        if check.kind is not CheckKind.COMMAND:
            raise ProjectFileInvalid(where, "a command, or a list of commands")
    return found


def _checks(where: str, value: object) -> tuple[Check, ...]:
    listed = value if isinstance(value, list) else [value]
    if len(listed) > limits.VERIFY_COMMANDS_MAX:
        raise ProjectFileInvalid(where, f"at most {limits.VERIFY_COMMANDS_MAX} commands")
    if listed is not value:
        return (_check(where, value),)
    return tuple(_check(f"{where}[{number}]", entry) for number, entry in enumerate(listed))


def _check(where: str, value: object) -> Check:
    if isinstance(value, str):
        return declaring.of_line(where, value)
    if not isinstance(value, dict):
        raise ProjectFileInvalid(where, 'a command, or a table like { run = "pytest" }')
    return declaring.of_table(where, value)


def _corrections(value: object) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, int) or not whole or not 0 <= value <= limits.CORRECTIONS_MAX:
        raise ProjectFileInvalid("corrections", f"from 0 to {limits.CORRECTIONS_MAX}")
    return value


def _choice(where: str, value: object, kind: type[E]) -> E:
    choices = {choice.value: choice for choice in kind}
    if not isinstance(value, str) or value not in choices:
        raise ProjectFileInvalid(where, " or ".join(f'"{known}"' for known in choices))
    return choices[value]


def _variables(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > VARIABLES_MAX:
        raise ProjectFileInvalid("env", f"a table of at most {VARIABLES_MAX} names and texts")
    for name, text in value.items():
        _check_variable(f"env.{name}", name)
        if not isinstance(text, str) or len(text) > VALUE_CHARS_MAX or "\0" in text:
            raise ProjectFileInvalid(f"env.{name}", f"a text of at most {VALUE_CHARS_MAX} letters")
    return dict(value)


def _passed(value: object) -> tuple[str, ...]:
    names = _texts("pass_env", value, VARIABLES_MAX)
    for name in names:
        _check_variable("pass_env", name)
        if _SECRET.fullmatch(name):
            rule = f"{name} looks like a secret: whoever runs the machine may give it to an agent"
            raise ProjectFileInvalid("pass_env", f"{rule} (`environment`), no repository may")
    return names


def _check_variable(where: str, name: str) -> None:
    if _VARIABLE.fullmatch(name) is None:
        raise ProjectFileInvalid(where, f"{name!r} is no name of a variable")
    if _OURS.fullmatch(name):
        raise ProjectFileInvalid(where, f"{name} is set by the machine")


def _cache(value: object) -> CachedPaths:
    if not isinstance(value, dict):
        raise ProjectFileInvalid("cache", "a table of `paths` and `key`")
    declaring.check_keys("cache", value, CACHE_KEYS)
    paths = _texts("cache.paths", value.get("paths", []), PATHS_MAX)
    key = _texts("cache.key", value.get("key", []), PATHS_MAX)
    for where, path in (*(("paths", path) for path in paths), *(("key", path) for path in key)):
        parts = path.split("/")
        if any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts):
            raise ProjectFileInvalid(f"cache.{where}", f"{path!r} is no path inside the repository")
    if paths and not key:
        raise ProjectFileInvalid("cache.key", "the files that decide what `paths` hold")
    return CachedPaths(paths=paths, key=key)


def _scopes(value: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict) or len(value) > SCOPES_MAX:
        raise ProjectFileInvalid("scopes", f"a table of at most {SCOPES_MAX} names")
    found = {}
    for name, patterns in value.items():
        if _SCOPE.fullmatch(name) is None:
            raise ProjectFileInvalid(f"scopes.{name}", "lower-case letters, digits, '.', '_', '-'")
        where = f"scopes.{name}"
        try:
            found[name] = globs.canonical(_texts(where, patterns, limits.SCOPE_GLOBS_MAX))
        except ProjectFileInvalid:
            raise
        except errors.InvalidInput as error:
            raise ProjectFileInvalid(where, error.rule) from None
    return found


def _texts(where: str, value: object, most: int) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > most:
        raise ProjectFileInvalid(where, f"a text, or a list of at most {most}")
    if not all(isinstance(text, str) and 0 < len(text) <= VALUE_CHARS_MAX for text in listed):
        raise ProjectFileInvalid(where, "texts that are not empty")
    return tuple(listed)
