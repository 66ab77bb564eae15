"""The OpenAPI 3.1 document, made from the route table and the types that decode and encode."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, Protocol

import msgspec

from agentcom import __version__
from agentcom.model import limits
from agentcom.transport.problem import Problem

OPEN: Final = "open"
_API: Final = "/api/v1"
_ALWAYS: Final = (400, 408, 413, 421, 429, 431, 500, 503)
_KEY: Final = "A repeat with the same key and input gets the same answer, for 7 days."
_REF: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"{(\w+)}")


class Line(Protocol):
    """What the document tells of one line of a route table."""

    @property
    def method(self) -> str:
        """The HTTP method."""
        ...

    @property
    def path(self) -> str:
        """The path, with `{id}` for what varies."""
        ...

    @property
    def access(self) -> StrEnum:
        """The action of the policy that guards it; `open` for none."""
        ...

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        ...

    @property
    def reply(self) -> Any:
        """The type of its answer, if that is JSON."""
        ...

    @property
    def bodies(self) -> Sequence[Any]:
        """The types that its body can have."""
        ...

    @property
    def body_optional(self) -> bool:
        """Whether the body may be left out."""
        ...

    @property
    def query(self) -> type[msgspec.Struct] | None:
        """The type of its query."""
        ...

    @property
    def status(self) -> int:
        """The status of a good answer."""
        ...

    @property
    def keyed(self) -> bool:
        """Whether it knows repeats by their key."""
        ...

    @property
    def media(self) -> str:
        """The media type of its answer."""
        ...

    @property
    def also(self) -> str | None:
        """Another media type of its answer."""
        ...


def document(table: Sequence[Line], *, version: str = __version__) -> dict[str, Any]:
    """Return the OpenAPI document of a route table."""
    kinds: list[Any] = [Problem]
    for line in table:
        kinds += [line.reply] if line.reply is not None else []
        kinds += line.bodies
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    by_kind = {_name(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    for kind in (body for line in table for body in line.bodies):
        name = by_kind[_name(kind)]["$ref"].rpartition("/")[2]
        _leave_tag(components[name], kind)
    paths: dict[str, dict[str, Any]] = {}
    for line in table:
        paths.setdefault(line.path, {})[line.method.lower()] = _operation(line, by_kind)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "AgentCom hub",
            "version": version,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _leave_tag(schema: dict[str, Any], kind: Any) -> None:
    """Let a body leave out what its address says already: which call it is."""
    tag = kind.__struct_config__.tag_field
    if tag is not None and tag in schema.get("required", ()):
        schema["required"] = [name for name in schema["required"] if name != tag]


def _operation(line: Line, by_kind: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(line),
        "summary": line.summary,
        "tags": [_tag(line)],
        "x-agentcom-access": line.access.value,
        "responses": _responses(line, by_kind),
    }
    if line.access.value == OPEN:
        operation["security"] = []
    parameters = _parameters(line)
    if parameters:
        operation["parameters"] = parameters
    bodies = [by_kind[_name(kind)] for kind in line.bodies]
    if bodies:
        schema = bodies[0] if len(bodies) == 1 else {"oneOf": bodies}
        operation["requestBody"] = {
            "required": not line.body_optional,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _responses(line: Line, by_kind: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {line.media: {}}
    if line.reply is not None:
        content = {line.media: {"schema": by_kind[_name(line.reply)]}}
    if line.also is not None:
        content[line.also] = {"schema": {"type": "string"}}
    good = {"description": HTTPStatus(line.status).phrase, "content": content}
    problem = {"application/problem+json": {"schema": by_kind[_name(Problem)]}}
    responses = {str(line.status): good}
    for status in _statuses(line):
        phrase = HTTPStatus(status).phrase
        responses[str(status)] = {"description": phrase, "content": problem}
    return responses


def _statuses(line: Line) -> Sequence[int]:
    statuses = set(_ALWAYS)
    if line.access.value != OPEN:
        statuses |= {401, 403}
    if line.path == f"{_API}/enrol":
        statuses |= {401, 409}
    if "{" in line.path:
        statuses |= {404, 409, 422}
    if line.method != "GET":
        statuses |= {403, 404, 409, 504, 507}
    if line.bodies:
        statuses |= {415, 422}
    if line.query is not None or line.keyed:
        statuses |= {422}
    if line.path.endswith("/why"):
        statuses |= {504}
    return sorted(statuses)


def _parameters(line: Line) -> list[dict[str, Any]]:
    text = {"type": "string", "minLength": 1}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in _PARAMETER.findall(line.path)
    ]
    if line.query is not None:
        _, components = msgspec.json.schema_components([line.query], ref_template=_REF)
        schema = components[line.query.__name__]
        parameters += [
            {"name": name, "in": "query", "required": False, "schema": _inline(one, components)}
            for name, one in schema["properties"].items()
        ]
    if line.keyed:
        key = {"type": "string", "minLength": 1, "maxLength": limits.REQUEST_KEY_CHARS}
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": _KEY,
                "schema": key,
            }
        )
    return parameters


def _inline(schema: Any, components: Mapping[str, Any]) -> Any:
    """Return a schema without references: those of queries are no components."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inline(components[schema["$ref"].rpartition("/")[2]], components)
        return {name: _inline(value, components) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_inline(value, components) for value in schema]
    return schema


def _name(kind: Any) -> str:
    return str(kind)


def _operation_id(line: Line) -> str:
    words = re.sub(r"[^a-z]+", "_", line.path.removeprefix(_API).removesuffix(".json"))
    return f"{line.method.lower()}_{words.strip('_')}"


def _tag(line: Line) -> str:
    parts = line.path.removeprefix(_API).strip("/").split("/")
    return parts[0] if line.path.startswith(_API) else "health"
