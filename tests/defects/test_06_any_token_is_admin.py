"""Defect 6: any self-registered token was admin, and writes of the dashboard needed none."""

from collections.abc import Iterator

import httpx
import pytest

from agentcom.model.identity import Role
from agentcom.protocol.call_table import RULES
from agentcom.protocol.calls import name_of
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.transport.http import endpoints
from agentcom.transport.http_call import PREFIX, Endpoint, Gate

OPEN_WRITES = {("POST", "/api/v1/enrol"), ("POST", "/api/v1/forge-events")}
"""They ask for a join code, and for a signature."""
"""Needs a one-time code, which is its credential."""


def _writes() -> Iterator[Endpoint]:
    for endpoint in endpoints():
        if endpoint.method != "GET" and (endpoint.method, endpoint.path) not in OPEN_WRITES:
            yield endpoint


def _path(endpoint: Endpoint) -> str:
    path = endpoint.path
    while "{" in path:
        start, end = path.index("{"), path.index("}")
        path = path[:start] + "nobody" + path[end + 1 :]
    return path


async def _refusals(http: httpx.AsyncClient) -> dict[str, int]:
    return {
        f"{endpoint.method} {endpoint.path}": (
            await http.request(endpoint.method, _path(endpoint), json={})
        ).status_code
        for endpoint in _writes()
    }


async def test_no_write_is_taken_without_a_token() -> None:
    async with running_hub() as hub, hub.client(None) as http:
        answers = await _refusals(http)

    assert answers
    assert set(answers.values()) == {401}, answers


async def test_reading_needs_a_token_too() -> None:
    async with running_hub() as hub, hub.client(None) as http:
        closed = [e for e in endpoints() if e.method == "GET" and e.access is not Gate.OPEN]
        answers = {e.path: (await http.get(_path(e))).status_code for e in closed}

    assert closed
    assert set(answers.values()) == {401}, answers


@pytest.mark.parametrize("who", ["machine", "viewer"])
async def test_neither_a_machine_nor_a_viewer_changes_anything(who: str) -> None:
    async with running_hub() as hub:
        token = await _token(hub, who)
        async with hub.client(token) as http:
            answers = await _refusals(http)

    mine = {"POST /api/v1/tokens"}  # a person may have tokens of the own role
    reads = {
        f"POST {PREFIX}/calls/{name_of(call)}" for call, rule in RULES.items() if not rule.changes
    }
    others = {name: status for name, status in answers.items() if name not in mine | reads}
    assert not [name for name, status in others.items() if status < 300], answers


async def test_a_joined_machine_cannot_let_others_in_or_see_secrets() -> None:
    async with running_hub() as hub:
        token = await _token(hub, "machine")
        async with hub.client(token) as http:
            asked = {
                "/api/v1/users": {"name": "mallory", "role": "admin"},
                "/api/v1/machines/invite": {"uses": 1},
                "/api/v1/tokens": {},
            }
            answers = {
                path: (await http.post(path, json=body)).status_code for path, body in asked.items()
            }

    assert set(answers.values()) == {403}, answers


async def test_a_submitter_is_no_admin() -> None:
    async with running_hub() as hub:
        token = await _token(hub, "submitter")
        async with hub.client(token) as http:
            user = await http.post("/api/v1/users", json={"name": "mallory", "role": "admin"})

    assert user.status_code == 403
    assert user.json()["code"] == "not_allowed"


async def _token(hub: RunningHub, who: str) -> str:
    if who == "machine":
        return (await hub.machine("box")).token
    return (await hub.user("eve", Role(who))).token
