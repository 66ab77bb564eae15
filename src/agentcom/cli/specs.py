"""From options, folders and files to the specifications that the hub takes."""

import difflib
import json
import re
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from agentcom.cli import output, repository
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.model.numerals import whole
from agentcom.model.task import TaskSpec

_DURATION: Final = re.compile(r"(\d{1,7})(s|m|h|d)")
_UNIT_MS: Final[Mapping[str, int]] = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AMOUNTS: Final[Mapping[str, str]] = {
    "tokens": "tokens",
    "cost": "cost_micros",
    "wall": "wall_ms",
    "turns": "turns",
}
_AMOUNT: Final = re.compile(r"\$?(\d{1,12}(?:\.\d{1,6})?)([kM]?)")
_THOUSANDS: Final[Mapping[str, int]] = {"": 1, "k": 1_000, "M": 1_000_000}
_SCOPE: Final = re.compile(r"@[a-z0-9][a-z0-9._-]*")
_TITLE_CHARS: Final = 60
_LISTED: Final = ("needs", "prefers", "scope", "verify")
_LISTS: Final = (*_LISTED, "keys", "command")
_IN_THE_FILE: Final = (
    *("title", "command", "needs", "verify", "depends_on", "not_before", "priority", "land"),
    *("prefers", "uses", "limit_key", "scope", "scope_shared", "kind", "on_quota", "budget"),
    *("group", "reviews", "review_by", "approval", "unique_key"),
    *("expires_in", "allow_repeat", "corrections"),
)
"""What a file says of each task itself."""

Spec = dict[str, Any]
_HOW: Final[Mapping[str, Spec]] = {
    "any": {"condition": "any_end"},
    "success": {},
    "skip": {"on_failure": "skip"},
    "wait": {"on_failure": "wait"},
    "fail": {"on_failure": "fail"},
    "children": {"children": True},
}
"""What a word behind a dependency's id means."""


def from_options(
    words: Sequence[str], options: Mapping[str, Any], *, resolve: Callable[[str], str]
) -> Spec:
    """Return the task that the command line asks for.

    Raises:
        CommandFailed: there is neither prompt nor command, or a value is not understood.
    """
    text = " ".join(words).strip()
    if not text:
        raise _usage("there is no prompt", 'agentcom submit "What is to be done"')
    spec: Spec = {"title": options["title"] or first_line(text)}
    if options["command"]:
        spec["command"] = list(words)
    else:
        spec["prompt"] = text
    spec |= {name: list(options[name]) for name in _LISTED if options.get(name)}
    _name_scopes(spec)
    named = ("priority", "land", "kind", "on_quota", "group", "review_by", "unique_key")
    spec |= {name: options[name] for name in named if options.get(name)}
    if options.get("corrections") is not None:
        spec["corrections"] = options["corrections"]
    readers: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
        "uses": ("uses", lambda given: dict(map(_amount, given))),
        "limit_key": ("keys", list),
        "scope_shared": ("scope_shared", bool),
        "depends_on": ("depends_on", lambda given: [_dependency(it, resolve) for it in given]),
        "reviews": ("reviews", resolve),
        "budget": ("budget", budget),
    }
    for option, (name, read) in readers.items():
        if options.get(option):
            spec[name] = read(options[option])
    spec |= _times(options)
    if options.get("approval"):
        return spec | {"approval": "person"}  # no agent, so no repository
    return spec | _place(options, spec)


def _times(options: Mapping[str, Any]) -> Spec:
    found: Spec = {}
    if options.get("not_before"):
        found["not_before"] = when(options["not_before"])
    if options.get("expires_in"):
        found["start_by"] = when(options["expires_in"], "--expires-in")
    return found | ({"repeats": True} if options["allow_repeat"] else {})


def check_alone(words: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse what would be ignored beside a file.

    Raises:
        CommandFailed: there is a prompt too, or an option that each task of the file has itself.
    """
    given = [
        f"--{name.replace('_', '-')}"
        for name in _IN_THE_FILE
        if options[name] not in (None, (), False)
    ]
    if words or given:
        what = given[0] if given else "a prompt"
        raise _usage(f"{what} does not go together with --file", "say it in the file, per task")


def from_file(path: Path, options: Mapping[str, Any]) -> list[Spec]:
    """Return the tasks of a JSON or TOML file: a list, or a table `tasks`.

    Raises:
        CommandFailed: the file is not understood.
    """
    try:
        text = path.read_text("utf-8")
        found: Any = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, UnicodeDecodeError) as error:
        raise _usage(f"{path} is not understood: {error}", "give a list of tasks") from error
    listed = found.get("tasks") if isinstance(found, dict) else found
    if not isinstance(listed, list) or not listed or not all(isinstance(it, dict) for it in listed):
        raise _usage(f"{path} has no list of tasks", "write [[tasks]] with a title and a prompt")
    where: Spec = {}
    if any("repo" not in entry for entry in listed):
        where = _place(options, {"verify": "said in the file"})
    return [_entry(entry, number, where) for number, entry in enumerate(listed)]


def when(text: str, option: str = "--not-before") -> int:
    """Return a wall time from `30m` from now, or a date and time of this zone.

    Raises:
        CommandFailed: it is neither.
    """
    if _DURATION.fullmatch(text):
        return int(time.time() * 1000) + duration(text, option)
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except ValueError as error:
        raise _usage(f"{text!r} is no time", f"{option} 2h, or 2027-01-31T08:00") from error


def since(text: str) -> int:
    """Return a wall time from `7d` ago, or a date and time of this zone.

    Raises:
        CommandFailed: it is neither.
    """
    short = _DURATION.fullmatch(text)
    if short is not None:
        return max(0, int(time.time() * 1000) - int(short[1]) * _UNIT_MS[short[2]])
    try:
        return max(0, int(datetime.fromisoformat(text).astimezone().timestamp() * 1000))
    except ValueError as error:
        raise _usage(f"{text!r} is no time", "--since 7d, or 2027-01-31") from error


def budget(text: str) -> dict[str, int]:
    """Return the limits that `cost=5,tokens=2M,turns=10,wall=8h` names.

    Raises:
        CommandFailed: an amount is not understood.
    """
    limits: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, amount = part.strip().partition("=")
        field, value = _AMOUNTS.get(name, ""), _number(name, amount)
        if not field or value is None or value < 1 or field in limits:
            raise _usage(f"{part!r} is no limit", "cost=5,tokens=2M,turns=10,wall=8h")
        limits[field] = value
    if not limits:
        raise _usage("no limit is named", "cost=5,tokens=2M,turns=10,wall=8h")
    return limits


def _number(name: str, text: str) -> int | None:
    if name == "wall":
        short = _DURATION.fullmatch(text)
        return int(short[1]) * _UNIT_MS[short[2]] if short is not None else None
    found = _AMOUNT.fullmatch(text)
    if found is None:
        return None
    value = Decimal(found[1]) * _THOUSANDS[found[2]] * (1_000_000 if name == "cost" else 1)
    return int(value)


def span_ms(text: str) -> int | None:
    """Return the milliseconds of `90s`, `30m`, `2h` or `1d`; None if it is none of these."""
    short = _DURATION.fullmatch(text)
    return None if short is None else int(short[1]) * _UNIT_MS[short[2]]


def duration(text: str, option: str) -> int:
    """Return the milliseconds of `30m`, `2h` and the like.

    Raises:
        CommandFailed: it is no duration.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise _usage(f"{text!r} is no duration", f"{option} 30m, or 2h")
    return int(found[1]) * _UNIT_MS[found[2]]


def first_line(text: str) -> str:
    """Return a title made of a prompt."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= _TITLE_CHARS else line[: _TITLE_CHARS - 1] + "…"


def _entry(entry: Mapping[str, Any], number: int, where: Spec) -> Spec:
    strange = next((key for key in entry if key not in TaskSpec.__struct_fields__), None)
    if strange is not None:
        known = TaskSpec.__struct_fields__
        close = difflib.get_close_matches(strange, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(known)}"
        raise _usage(f"tasks[{number}] has no field {strange}", hint)
    spec: Spec = {**where, **entry} if "repo" not in entry else dict(entry)
    if not spec.get("repo"):
        spec = {name: value for name, value in spec.items() if name not in ("repo", "base")}
    spec.setdefault("title", first_line(str(spec.get("prompt", ""))) or "Task")
    for name in _LISTS:
        if isinstance(spec.get(name), str):
            spec[name] = [spec[name]]
    if "depends_on" in spec:
        spec["depends_on"] = [
            _in_file(one) if isinstance(one, str) else one for one in spec["depends_on"]
        ]
    _name_scopes(spec)
    for name in ("not_before", "start_by"):
        if isinstance(spec.get(name), str):
            spec[name] = when(spec[name], name)
    return spec


def _name_scopes(spec: Spec) -> None:
    """Put globs in the place of `@NAME`, which the repository's own file says."""
    given = spec.get("scope", ())
    if not any(_SCOPE.fullmatch(one) for one in given):
        return
    says = repository.project(Path.cwd())
    named: list[str] = []
    for one in given:
        globs = says.scopes.get(one[1:]) if _SCOPE.fullmatch(one) else (one,)
        if globs is None:
            known = ", ".join(f"@{name}" for name in says.scopes) or "none"
            raise _usage(f"{one} is no scope of this repository", f"its file names: {known}")
        named += globs
    spec["scope"] = named


def _place(options: Mapping[str, Any], spec: Spec) -> Spec:
    if options["no_repo"]:
        return {}
    if options["repo"]:
        repo = options["repo"]
        local = Path(repo).expanduser()
        place: Spec = {"repo": str(local.resolve()) if local.is_dir() else repo}
        return place | ({"base": options["base"]} if options["base"] else {})
    found = repository.infer(Path.cwd())
    if found is None:
        return {}
    for note in found.notes:
        output.talk(f"note: {note}")
    if not spec.get("verify") and not found.has_checks:
        output.talk("note: nothing says how to verify it: it will end as completed (unverified)")
    return {"repo": found.repo, "base": options["base"] or found.base}


def _amount(text: str) -> tuple[str, int]:
    name, _, much = text.partition("=")
    amount = whole(much)
    if amount is None:
        raise _usage(f"{text!r} is no amount", "--uses cpu=2")
    return name, amount


def _dependency(text: str, resolve: Callable[[str], str]) -> Spec:
    name, _, how = text.partition(":")
    task: Spec = {}
    for word in how.split(",") if how else ():
        if word not in _HOW:
            raise _usage(f"{text!r} is no dependency", f"--depends-on ID, or ID:{'|'.join(_HOW)}")
        task |= _HOW[word]
    return {"task": resolve(name), **task}


def _in_file(text: str) -> Spec:
    """Return a dependency on a `ref` or an id, as a file names it; a `ref` may hold a colon."""
    name, _, how = text.rpartition(":")
    words = how.split(",")
    if not name or not all(word in _HOW for word in words):
        return {"task": text}
    return _dependency(text, str) if ":" not in name else {"task": text}


def _usage(message: str, hint: str) -> CommandFailed:
    return CommandFailed(message, hint=hint, exit_code=Exit.USAGE, code="usage")
