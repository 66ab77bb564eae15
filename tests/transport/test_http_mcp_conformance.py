"""The protocol's public conformance suite, run against a hub: its port, its token, its envelope."""

import asyncio
import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from agentcom.testing.hub import running_hub
from agentcom.transport import http_mcp_server
from tests.sidecar.real_cli import installed
from tests.transport.conformance_fixture import fixture_server

pytestmark = [
    pytest.mark.cli,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("conformance"),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]
BEARER = Path(__file__).with_name("bearer.mjs")
LINE = re.compile(r"^(?P<sign>[✓✗]) (?P<name>[a-z0-9-]+): (?P<passed>\d+) passed, ", re.MULTILINE)
REQUIRED = {"2025-11-25": 30, "2026-07-28": 37}
"""How many scenarios a revision requires of servers."""
OWN = {
    "2025-11-25": {
        "server-initialize",
        "ping",
        "tools-list",
        "resources-list",
        "prompts-list",
        "dns-rebinding-protection",
    },
    "2026-07-28": {
        "tools-list",
        "resources-list",
        "prompts-list",
        "sep-2164-resource-not-found",
        "dns-rebinding-protection",
        "input-required-result-unsupported-methods",
    },
}
"""Those that need nothing but what every hub has."""


class Verdict(NamedTuple):
    code: int
    passed: set[str]
    """Scenarios of which at least one check was made, and all were good."""
    said: str


async def verdict(url: str, token: str, revision: str, folder: Path) -> Verdict:
    """Run what a revision requires against a server."""
    program = installed("conformance")
    process = await asyncio.create_subprocess_exec(
        program,
        *("server", "--url", f"{url}/mcp", "--requirements", revision, "-o", str(folder)),
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CONFORMANCE_TOKEN": token,
            "NODE_OPTIONS": f"--import={BEARER.as_uri()}",
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode is not None
    lines = LINE.finditer(said)
    passed = {one["name"] for one in lines if one["sign"] == "✓" and int(one["passed"])}
    return Verdict(process.returncode, passed, said)


@pytest.mark.parametrize("revision", REQUIRED)
async def test_all_that_a_revision_requires_holds_behind_the_port(
    revision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = StreamableHTTPSessionManager(fixture_server())
    monkeypatch.setattr(http_mcp_server, "serve", manager.handle_request)

    async with manager.run(), running_hub() as hub:
        found = await verdict(hub.url, hub.admin_token, revision, tmp_path)

    assert found.code == 0, found.said
    assert len(found.passed) >= REQUIRED[revision], found.said


@pytest.mark.parametrize("revision", REQUIRED)
async def test_a_hub_as_it_is_meets_what_needs_nothing_else(revision: str, tmp_path: Path) -> None:
    async with running_hub() as hub:
        found = await verdict(hub.url, hub.admin_token, revision, tmp_path)

    assert OWN[revision] - found.passed == set(), found.said


async def test_the_suite_comes_in_by_the_token_alone(tmp_path: Path) -> None:
    async with running_hub() as hub:
        found = await verdict(hub.url, "wrong", "2025-11-25", tmp_path)

    assert found.code != 0
    assert found.passed & OWN["2025-11-25"] == set()
