"""A hub's MCP tools over standard input and output, for clients that start their servers.

Needs the extra `agentcom[mcp]`; nothing else imports this. The SDK answers both eras of the
protocol on this side, and speaks to the hub on the other; calls pass through as they are.
"""

from urllib.parse import urlsplit

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from agentcom import __version__
from agentcom.client.dialling import Dial, NotReached, check_url, tls_context
from agentcom.client.http import CONNECT_TIMEOUT_S, READ_TIMEOUT_S

PATH = "/mcp"


async def serve(dial: Dial, *, profile: str) -> None:
    """Serve until standard input ends.

    Raises:
        NotReached: the hub does not answer, or does not speak MCP.
    """
    address = check_url(dial.url, insecure=dial.insecure)
    context = tls_context(address, dial.fingerprint)
    scheme = "http" if context is None else "https"
    url = f"{scheme}://{urlsplit(address).netloc}{PATH}?profile={profile}"
    async with httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {dial.token}", "User-Agent": dial.software},
        verify=context if context is not None else False,
        timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
    ) as http:
        hub = Client(streamable_http_client(url, http_client=http))
        try:
            await hub.__aenter__()
        except Exception as error:
            raise NotReached(f"no MCP at {dial.url}: {_reason(error)}") from error
        try:
            server = _server(hub)
            async with stdio_server() as (reading, writing):
                await server.run(reading, writing, server.create_initialization_options())
        finally:
            await hub.__aexit__(None, None, None)


def _server(hub: Client) -> Server[object]:
    async def list_tools(
        _context: ServerRequestContext[object, object],
        asked: types.PaginatedRequestParams | None,
    ) -> types.ListToolsResult:
        return await hub.list_tools(cursor=None if asked is None else asked.cursor)

    async def call_tool(
        _context: ServerRequestContext[object, object], asked: types.CallToolRequestParams
    ) -> types.CallToolResult:
        return await hub.call_tool(asked.name, asked.arguments)

    return Server(
        "agentcom",
        version=__version__,
        title="AgentCom hub",
        instructions=hub.instructions,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _reason(error: BaseException) -> str:
    """Return what went wrong first in a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
