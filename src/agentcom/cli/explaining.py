"""The settings of this computer's programs in words: from their types, marks and docstrings.

Whoever shows settings to people (`agentcom config`, the pages of the reference) has them from here.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args, get_origin

import msgspec

from agentcom.hub import config as hub_config
from agentcom.hub.config import HubConfig
from agentcom.model import settings
from agentcom.model.settings import Problem, Setting, Value
from agentcom.sidecar import settings as sidecar_settings
from agentcom.sidecar.config import Home, Settings
from agentcom.telemetry.redact import GONE, redact

_SECRET: Final = re.compile(r"(?:^|[._])(?:token|secret|password)$")
"""Names whose values are never shown, if they are text: what a file is called is no secret."""
_BOUNDS: Final[Mapping[str, str]] = {
    "ge": "at least {}",
    "gt": "more than {}",
    "le": "at most {}",
    "lt": "less than {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
}
_WORDS: Final[Mapping[Any, str]] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
}


class Program(NamedTuple):
    """One program that has settings."""

    name: str
    kind: type[msgspec.Struct]
    file: str
    prefix: str
    """Of its variables in the environment."""


HUB: Final = Program("hub", HubConfig, hub_config.FILE_NAME, hub_config.ENVIRONMENT_PREFIX)
SIDECAR: Final = Program(
    "sidecar", Settings, sidecar_settings.FILE_NAME, sidecar_settings.ENVIRONMENT_PREFIX
)
PROGRAMS: Final = (HUB, SIDECAR)
HOME: Final = "home"
"""The one setting that says where the file is, so it cannot stand in it."""


def examine(
    program: Program,
    home: Path,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> tuple[Mapping[str, Value], Sequence[Problem]]:
    """Return what each setting of a program would be, and all that is wrong."""
    if program is HUB:
        hub = hub_config.examine(flags={"home": home}, environment=environment, file=file)
        return hub.values, hub.problems
    at = Home(home)
    stored = at.load().machine.settings if at.exists() and file is None else Settings()
    machine = sidecar_settings.examine(home, stored, environment=environment, file=file)
    return machine.values, machine.problems


def meaning(setting: Setting) -> str:
    """Return what a setting is for: the docstring below its field."""
    return field_docs(setting.owner).get(setting.field, "")


def type_words(kind: Any) -> str:
    """Return what values a type takes, without its bounds."""
    plain = _plain(kind)
    parts = [one for one in get_args(plain) if one is not type(None)]
    if _is_union(plain):
        return " or ".join(dict.fromkeys(map(type_words, parts)))
    if get_origin(plain) in (tuple, list):
        inner = type_words(parts[0])
        return f"list of {inner}"
    if get_origin(plain) is dict:
        return "table"
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return "one of " + ", ".join(one.value for one in plain)
    return _WORDS.get(plain, "text" if _is_text(plain) else "table")


def bounds(kind: Any) -> str:
    """Return the bounds of a type; "" if it has none."""
    found = []
    for meta in getattr(kind, "__metadata__", ()):
        for name, words in _BOUNDS.items():
            value = getattr(meta, name, None)
            if value is not None:
                found.append(words.format(f"{value:,}".replace(",", "_")))
    return ", ".join(found)


def text(setting: Setting, value: object) -> str:
    """Return a value as a file would say it; a secret is blanked out."""
    if value is msgspec.NODEFAULT:
        return ""
    if is_secret(setting) and value not in (None, "", ()):
        return GONE
    return redact(_toml(value))


def is_secret(setting: Setting) -> bool:
    """Return whether the value of a setting is nobody's to see."""
    named = _SECRET.search(setting.name) is not None
    return setting.secret or (named and "text" in type_words(setting.kind))


def public(setting: Setting, value: object) -> object:
    """Return a value for JSON; a secret is blanked out."""
    if is_secret(setting) and value not in (None, "", ()):
        return GONE
    built = msgspec.to_builtins(value, enc_hook=str)
    return redact(built) if isinstance(built, str) else built


def json_schema(program: Program) -> dict[str, Any]:
    """Return the JSON Schema of a program's file, for editors."""
    known = settings.describe(program.kind)
    by_place = {(it.owner.__name__, it.field): it for it in known.values()}
    schema = msgspec.json.schema(program.kind, schema_hook=_schema_of)
    for owner, described in schema["$defs"].items():
        described.setdefault("additionalProperties", False)
        for field, one in described.get("properties", {}).items():
            setting = by_place.get((owner, field))
            if setting is not None:
                described["properties"][field] = _annotated(setting, one)
    root = schema["$defs"][program.kind.__name__]
    root["properties"].pop(HOME, None)
    root["required"] = [name for name in root.get("required", ()) if name != HOME]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"AgentCom: {program.file}",
        **schema,
    }


def field_docs(kind: type) -> dict[str, str]:
    """Return the docstrings that stand below the fields of a class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, said in zip(tree.body, tree.body[1:], strict=False):
        match field, said:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(value=str(doc))):
                found[name] = " ".join(doc.split())
            case _:
                pass
    return found


def _annotated(setting: Setting, schema: Mapping[str, Any]) -> dict[str, Any]:
    more: dict[str, Any] = {"description": meaning(setting), "x-hot": setting.hot}
    if setting.since != settings.FIRST_VERSION:
        more["x-since"] = setting.since
    return {**schema, **more}


def _schema_of(kind: type) -> dict[str, Any]:
    if issubclass(kind, Path):
        return {"type": "string", "minLength": 1}
    raise NotImplementedError(kind)


def _toml(value: object) -> str:
    match msgspec.to_builtins(value, enc_hook=str):
        case None:
            return "none"
        case bool() as truth:
            return "true" if truth else "false"
        case str() as words:
            return _quoted(words)
        case list() | tuple() as many:
            return "[" + ", ".join(map(_toml, many)) + "]"
        case dict() as table:
            return "{" + ", ".join(f"{_quoted(k)} = {_toml(v)}" for k, v in table.items()) + "}"
        case other:
            return str(other)


def _quoted(words: str) -> str:
    return msgspec.json.encode(words).decode()


def _plain(kind: Any) -> Any:
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    return kind


def _is_union(kind: Any) -> bool:
    return type(None) in get_args(kind)


def _is_text(kind: Any) -> bool:
    return getattr(kind, "__supertype__", None) is str
