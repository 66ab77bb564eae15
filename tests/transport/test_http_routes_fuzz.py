"""Every route, called with what its description allows and what it does not: never a fault.

`make fuzz` does so longer, with a program made for it; this is the part that costs seconds.
"""

import json
import random
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import quote

import pytest

from agentcom.hub.config import Bounds
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.transport import http, openapi

SEED: Final = 20_261_128
ROUNDS: Final = 4
LEFT_OUT: Final = frozenset({"/api/v1/drain", "/mcp"})
DOCUMENT: Final = openapi.document(http.endpoints())
HOSTILE: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 2**31, 2**63, 1e308, "", " ", "a" * 300, "\u202e", "\x1b[2J", "../../x"),
    *("' OR 1=1 --", "%s%n", "@last", "user:ann", "\ufeff", [], {}, [None], {"": {}}),
)


class Asker:
    """Draws requests from descriptions."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def value(self, schema: dict[str, Any], depth: int = 0) -> Any:
        """Return what fits a schema, mostly."""
        if "$ref" in schema:
            return self.value(
                DOCUMENT["components"]["schemas"][schema["$ref"].split("/")[-1]], depth
            )
        if self.rng.random() < 0.15 or depth > 4:
            return self.rng.choice(HOSTILE)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self.value(self.rng.choice(schema[key]), depth)
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        made: Callable[[], Any] | None = {
            "object": lambda: self._object(schema, depth),
            "array": lambda: [self.value(schema.get("items", {}), depth + 1)],
            "string": lambda: self.rng.choice(["x", "ann", "default", "t" * 40, "0 0 1 1 *"]),
            "integer": lambda: self.rng.choice(
                [schema.get("minimum", 1), schema.get("maximum", 9)]
            ),
            "number": lambda: 0.5,
            "boolean": lambda: self.rng.random() < 0.5,
        }.get(schema.get("type", ""))
        return self.rng.choice(HOSTILE) if made is None else made()

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        fields, needed = schema.get("properties", {}), schema.get("required", ())
        drawn = {
            name: self.value(field, depth + 1)
            for name, field in fields.items()
            if name in needed or self.rng.random() < 0.5
        }
        return drawn if self.rng.random() < 0.9 else {**drawn, "unknown": 1}

    def text(self) -> str:
        """Return something to name a thing by."""
        drawn = self.rng.choice(["x", "ann", "@last", *(h for h in HOSTILE if isinstance(h, str))])
        return quote(drawn, safe="") or "x"


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub(limits=Bounds(rates=False)) as running:
        yield running


@pytest.mark.timeout(300)
async def test_no_request_is_a_fault_or_answered_in_a_way_that_is_not_described(
    hub: RunningHub,
) -> None:
    asker = Asker(SEED)
    calls = [
        (method, path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
        if path not in LEFT_OUT
    ]

    for method, path, operation in calls * ROUNDS:
        url = re.sub(r"{\w+}", lambda _: asker.text(), path)
        given = operation.get("parameters", ())
        query = {
            one["name"]: str(asker.value(one["schema"]))
            for one in given
            if one["in"] == "query" and "wait" not in one["name"] and asker.rng.random() < 0.5
        }
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        content = json.dumps(asker.value(body["schema"])).encode() if body else None
        headers = {"content-type": "application/json"} if content else {}
        answer = await hub.http.request(method, url, params=query, content=content, headers=headers)
        said = (method, url, query, content, answer.status_code, answer.text[:300])
        assert answer.status_code < 500, said
        assert str(answer.status_code) in operation["responses"], said
    assert (await hub.http.get("/readyz")).status_code == 200
