"""The OpenAPI document says what the hub does: same routes, same types, same refusals."""

import json
import re
from typing import Any

import msgspec
import pytest

from agentcom.testing.hub import running_hub
from agentcom.transport import http, openapi
from agentcom.transport.http_call import Gate

ENDPOINTS = http.endpoints()
DOCUMENT = openapi.document(ENDPOINTS)


def references(value: object) -> list[str]:
    """Return every reference in a document."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for part in value.values() for ref in references(part)]
    if isinstance(value, list):
        return [ref for part in value for ref in references(part)]
    return []


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_route_is_described() -> None:
    described = {(method.upper(), path) for method, path, _ in operations()}

    assert described == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}


def test_every_reference_leads_somewhere() -> None:
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}

    assert [ref for ref in references(DOCUMENT) if ref not in known] == []


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]

    assert len(set(names)) == len(names)


def test_every_parameter_of_a_path_is_described() -> None:
    for _, path, operation in operations():
        named = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


def test_a_field_that_is_not_described_is_refused() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert schemas["TaskAsked"]["additionalProperties"] is False


def test_what_needs_a_token_says_so() -> None:
    without = {path for _, path, operation in operations() if operation.get("security") == []}

    assert without == {e.path for e in ENDPOINTS if e.access is Gate.OPEN}
    assert all("401" in op["responses"] for _, path, op in operations() if path not in without)


@pytest.mark.parametrize("status", ["400", "413", "429"])
def test_every_operation_describes_the_common_refusals(status: str) -> None:
    assert all(status in operation["responses"] for _, _, operation in operations())


def test_keys_are_offered_where_a_repeat_is_harmless() -> None:
    keyed = {
        path
        for _, path, operation in operations()
        if any(p["name"] == "Idempotency-Key" for p in operation.get("parameters", ()))
    }

    assert keyed == {endpoint.path for endpoint in ENDPOINTS if endpoint.keyed}


async def test_the_hub_shows_its_document_to_whoever_has_a_token() -> None:
    async with running_hub() as hub:
        shown = await hub.http.get(http.DOCUMENT_PATH)
        async with hub.client(None) as stranger:
            refused = await stranger.get(http.DOCUMENT_PATH)

    assert shown.json() == json.loads(msgspec.json.encode(DOCUMENT))
    assert refused.status_code == 401
