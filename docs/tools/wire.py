"""Generated blocks about what travels: frames, the values in them, and routes."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

import msgspec

from agentcom.cli import explaining
from agentcom.model.task import TaskSpec
from agentcom.protocol import frames
from agentcom.transport.http import endpoints
from agentcom.transport.http_call import Endpoint, Gate
from agentcom.transport.http_mcp_schema import KEY
from agentcom.transport.http_mcp_tool import Profile
from agentcom.transport.http_mcp_tools import TOOLS
from agentcom.transport.openapi import document
from docs.tools import source, words
from docs.tools.blocks import code, table

_REF: Final = "{name}"
_SENDERS: Final = (
    ("A machine sends", frames.FromMachine),
    ("A person or program sends", frames.FromClient),
    ("The hub sends", frames.FromHub),
)

Schema = Mapping[str, Any]


def frames_by_sender() -> str:
    """Return every frame with its fields."""
    parts = []
    for title, union in _SENDERS:
        kinds = get_args(union)
        _, components = msgspec.json.schema_components(kinds, ref_template=_REF)
        parts.append(f"### {title}")
        for kind in kinds:
            name = kind.__struct_config__.tag
            parts.append(f"**`{name}`**: {source.first_line(kind)}")
            rows = list(_fields(components[kind.__name__], explaining.field_docs(kind)))
            if rows:
                parts.append(table(["field", "type", "default", "meaning"], rows))
    return "\n\n".join(parts)


def frame_names() -> list[str]:
    """Return the types of all frames."""
    unions = [union for _, union in _SENDERS]
    return [kind.__struct_config__.tag for union in unions for kind in get_args(union)]


def values() -> str:
    """Return the values that frames carry, and closed sets of words."""
    kinds = [kind for _, union in _SENDERS for kind in get_args(union)]
    _, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    own = {kind.__name__ for kind in kinds}
    parts = []
    for name in sorted(set(components) - own):
        schema = components[name]
        parts.append(f"**{name}**: {_one_line(schema.get('description', ''))}")
        if "enum" in schema:
            parts.append("One of " + ", ".join(map(code, schema["enum"])) + ".")
        elif "properties" in schema:
            parts.append(table(["field", "type", "default", "meaning"], _fields(schema, {})))
        else:
            parts.append(f"Written as {_type(schema)}.")
    return "\n\n".join(parts)


def task_fields() -> str:
    """Return what a task may say."""
    _, components = msgspec.json.schema_components([TaskSpec], ref_template=_REF)
    docs = {
        name.partition(".")[2]: said
        for name, said in words.SETTINGS.items()
        if name.startswith("TaskSpec.")
    }
    rows = _fields(components["TaskSpec"], docs)
    return table(["field", "type", "default", "meaning"], rows)


def routes() -> str:
    """Return every route: who may use it, and what it takes and gives."""
    rows = [
        (f"`{line.method} {line.path}`", _access(line), line.summary, _takes(line), line.status)
        for line in endpoints()
    ]
    return table(["route", "who", "what", "query", "status"], rows)


def tools() -> str:
    """Return every tool of the MCP door with what it takes."""
    parts = []
    for tool in TOOLS:
        lists = "minimal, full" if tool.brief is not None else "full"
        parts.append(f"**`{tool.name}`** ({lists}; {tool.effect}): {_one_line(tool.says)}")
        _, components = msgspec.json.schema_components([tool.kind], ref_template=_REF)
        shown = tool.arguments(Profile.FULL)["properties"]
        docs = {name: one.get("description", "") for name, one in shown.items()}
        rows = list(_fields(components[tool.kind.__name__], docs))
        tag = code(tool.kind.__struct_config__.tag_field or "")
        rows = [row for row in rows if row[0] != tag]
        if tool.keyed:
            rows.append((code(KEY), "string", "none", docs[KEY]))
        if rows:
            parts.append(table(["field", "type", "default", "meaning"], rows))
    return "\n\n".join(parts)


def route_paths() -> list[str]:
    """Return method and path of every route."""
    return [f"{line.method} {line.path}" for line in endpoints()]


def openapi_is_made() -> bool:
    """Return whether the OpenAPI document comes out of the same table."""
    return set(document(list(endpoints()))["paths"]) == {line.path for line in endpoints()}


def _access(line: Endpoint) -> str:
    match line.access:
        case Gate.OPEN:
            return "everyone"
        case Gate.SIGNED_IN:
            return "any token"
        case action:
            return code(action.value)


def _takes(line: Endpoint) -> str:
    if line.query is None:
        return ""
    return ", ".join(code(field.name) for field in msgspec.structs.fields(line.query))


def _fields(schema: Schema, docs: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    required = set(schema.get("required", ()))
    for name, one in schema.get("properties", {}).items():
        if name == "type" and "enum" in one:
            continue
        default = "" if name in required else _default(one)
        yield code(name), _type(one), default, docs.get(name, "")


def _default(schema: Schema) -> str:
    value = schema.get("default")
    if value in (None, "", (), [], {}):
        return "none"
    return code(str(value).lower() if isinstance(value, bool) else value)


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"])
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "prefixItems" in schema:
        return "[" + ", ".join(map(_type, schema["prefixItems"])) + "]"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object":
        return "object"
    return str(schema.get("type", "any"))


def _one_line(text: str) -> str:
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())
