"""The SDK's own client, connected to a hub of a test."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

Era = Literal["legacy", "2026-07-28"]
ERAS: tuple[Era, ...] = ("legacy", "2026-07-28")


@asynccontextmanager
async def mcp_client(
    url: str,
    token: str,
    *,
    era: Era = "2026-07-28",
    query: str = "",
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Client]:
    """Connect as the bearer of a token."""
    given = {"authorization": f"Bearer {token}", **(headers or {})}
    async with httpx2.AsyncClient(headers=given, trust_env=False, timeout=30) as http:
        transport = streamable_http_client(f"{url}/mcp{query}", http_client=http)
        async with Client(transport, mode=era) as client:
            yield client


async def use(client: Client, name: str, given: Mapping[str, Any] | None = None) -> Any:
    """Use a tool and return its answer."""
    result = await client.call_tool(name, dict(given or {}))
    assert not result.is_error, result
    return json.loads(text_of(result))


async def refused(client: Client, name: str, given: Mapping[str, Any] | None = None) -> Any:
    """Use a tool that refuses, and return what it says."""
    result = await client.call_tool(name, dict(given or {}))
    assert result.is_error, result
    return json.loads(text_of(result))


def text_of(result: CallToolResult) -> str:
    """Return the text of an answer that is one text."""
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text
