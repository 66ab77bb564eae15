"""JSON Schemas of tools' arguments, made from the types that decode them.

A model reads them with every request, so they are short: no titles, no references, no `null` for
what may be left out. The brief form also leaves out bounds, which a refusal names anyhow.
"""

import ast
import inspect
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import msgspec

from agentcom.model.limits import REQUEST_KEY_CHARS

Schema = dict[str, Any]

KEY: Final = "request_key"
_KEYED: Final = "A repeat with the same key is answered the same, and done once."
_REF: Final = "#/$defs/{name}"
_NEVER: Final = frozenset({"title", "description"})
_BOUNDS: Final = frozenset(
    {"minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "pattern", "default"}
)
_NULL: Final = {"type": "null"}


def arguments(
    kind: type[msgspec.Struct], *, keyed: bool, only: Collection[str] | None = None
) -> Schema:
    """Return the schema of the arguments that a tool takes; brief if it names `only` some."""
    (_, defined) = msgspec.json.schema_components([kind], ref_template=_REF)
    whole = defined[kind.__name__]
    dropped = _NEVER if only is None else _NEVER | _BOUNDS
    tag = kind.__struct_config__.tag_field
    fields: Schema = {
        name: _plain(field, defined, dropped)
        for name, field in whole["properties"].items()
        if name != tag and (only is None or name in only)
    }
    if keyed:
        fields[KEY] = {"type": "string"}
    if only is None:
        for name, said in _said(kind).items():
            fields[name]["description"] = said
        if keyed:
            fields[KEY] |= {"minLength": 1, "maxLength": REQUEST_KEY_CHARS, "description": _KEYED}
    schema: Schema = {"type": "object", "properties": fields}
    required = [name for name in whole["required"] if name != tag]
    if required:
        schema["required"] = required
    if only is None:
        schema["additionalProperties"] = False
    return schema


def answer(kind: type[msgspec.Struct]) -> Schema:
    """Return the schema of what a tool answers."""
    (_, defined) = msgspec.json.schema_components([kind], ref_template=_REF)
    return {"type": "object", **_plain(defined[kind.__name__], defined, _NEVER | _BOUNDS)}


def _said(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the sentences under the fields of a type, in its source, by field."""
    said: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if one.__module__.startswith("agentcom."):
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
            assert isinstance(body, ast.ClassDef)
            said |= dict(_pairs(body.body))
    return said


def _pairs(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, text in pairwise(body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(name)),
                ast.Expr(value=ast.Constant(value=str(said))),
            ):
                yield name, " ".join(said.split())
            case _:
                pass


def _plain(schema: Any, defined: Mapping[str, Any], dropped: Collection[str]) -> Any:
    """Return a schema without references and without what a model need not read."""
    if isinstance(schema, list):
        return [_plain(one, defined, dropped) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain(defined[schema["$ref"].rpartition("/")[2]], defined, dropped)
    if "anyOf" in schema:
        return _some(schema, defined, dropped)
    if "enum" in schema:
        return _closed(schema["enum"])
    plain = {}
    for name, value in schema.items():
        if name == "properties":
            plain[name] = {key: _plain(one, defined, dropped) for key, one in value.items()}
        elif name not in dropped:
            plain[name] = _plain(value, defined, dropped)
    return plain


def _some(schema: Mapping[str, Any], defined: Mapping[str, Any], dropped: Collection[str]) -> Any:
    """Return a choice of types; one of them and null is just that one."""
    others = [one for one in schema["anyOf"] if one != _NULL]
    if len(others) == 1:
        return _plain(others[0], defined, dropped)
    return {"anyOf": _plain(others, defined, dropped)}


def _closed(values: Sequence[Any]) -> Schema:
    """Return a closed set with its type; numbers as a range, since some clients know only texts."""
    if all(isinstance(value, int) for value in values):
        return {"type": "integer", "minimum": min(values), "maximum": max(values)}
    return {"type": "string", "enum": list(values)}
