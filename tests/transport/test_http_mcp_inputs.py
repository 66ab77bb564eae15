"""Whatever may come as arguments of a tool: refused by code, never a fault."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcom.testing.hub import RunningHub, running_hub
from agentcom.transport.http_mcp_tool import Profile, Tool
from agentcom.transport.http_mcp_tools import TOOLS

HEADERS = {"accept": "application/json, text/event-stream"}
TYPES: dict[str, Any] = {"string": "none", "array": ["none"], "boolean": True, "integer": 1}

texts = st.text(st.characters(codec="utf-8"), max_size=20)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


def least(tool: Tool) -> dict[str, Any]:
    """Return arguments of the right types, about things that are not there."""
    schema = tool.arguments(Profile.FULL)
    fields = schema["properties"]
    return {name: TYPES[fields[name]["type"]] for name in schema.get("required", ())}


async def code_of(http: httpx.AsyncClient, name: str, arguments: Any) -> str:
    """Use a tool; return the code of its refusal, or nothing."""
    params = {"name": name, "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    data = json.dumps(body).encode()
    typed = {**HEADERS, "content-type": "application/json"}
    answer = await http.post("/mcp?profile=full", content=data, headers=typed)
    told = answer.json()
    if "result" not in told:
        return str(told.get("code") or told["error"]["code"])
    (content,) = told["result"]["content"]
    return str(json.loads(content["text"])["code"]) if told["result"].get("isError") else ""


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[asyncio.Runner, RunningHub]]:
    """A hub for all examples, on a loop of its own."""
    with asyncio.Runner() as runner:
        running = running_hub()
        hub = runner.run(running.__aenter__())
        yield runner, hub
        runner.run(running.__aexit__(None, None, None))


@pytest.mark.timeout(240)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_arguments_are_a_fault(
    site: tuple[asyncio.Runner, RunningHub], data: st.DataObject
) -> None:
    runner, hub = site
    tool = data.draw(st.sampled_from(TOOLS))
    fields = sorted(tool.arguments(Profile.FULL)["properties"].keys() - {"wait_ms"})
    known = st.dictionaries(st.sampled_from(fields), values, max_size=6) if fields else st.just({})
    drawn = data.draw(known | st.dictionaries(texts, values, max_size=3))

    code = runner.run(code_of(hub.http, tool.name, {**least(tool), **drawn}))

    assert code not in {"fault", "-32603"}
