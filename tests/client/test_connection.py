"""One connection: hello, requests by key, refusals as exceptions, and its end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentcom.client.connection import Connection, ConnectionLost, Shown
from agentcom.client.dialling import Dial, NotReached
from agentcom.hub import certificate, tokens
from agentcom.model import errors
from agentcom.model.identity import CredentialKind, Role
from agentcom.model.ids import TaskId
from agentcom.model.replies import Done, Submitted
from agentcom.model.task import TaskSpec
from agentcom.protocol import frames
from agentcom.testing.hub_site import HubSite, hub_site
from agentcom.testing.proxy import fault_proxy
from agentcom.testing.waiting import PATIENCE_S

SPEC = TaskSpec(title="t", prompt="p")


@pytest.fixture
async def hub() -> AsyncIterator[HubSite]:
    async with hub_site() as site:
        yield site


def ignore(_shown: Shown) -> None:
    return


async def opened(hub: HubSite) -> Connection:
    return await Connection.open(Dial(url=hub.url, token=await hub.token()), ignore)


async def test_a_line_that_went_dead_without_a_word_is_noticed(hub: HubSite) -> None:
    host, _, port = hub.url.removeprefix("http://").partition(":")
    async with fault_proxy(host, int(port)) as proxy:
        there = Dial(
            url=f"http://127.0.0.1:{proxy.port}", token=await hub.token(), keepalive_s=0.05
        )
        connection = await Connection.open(there, ignore)

        proxy.freeze()

        async with asyncio.timeout(PATIENCE_S):
            assert isinstance(await connection.ended(), ConnectionLost)
        await connection.close()


def submit(key: str = "k1") -> frames.SubmitFrame:
    return frames.SubmitFrame(key=key, tasks=(SPEC,))


async def test_a_connection_is_open_when_the_hub_is_ready(hub: HubSite) -> None:
    connection = await opened(hub)

    assert (connection.ready.hub, connection.ready.version) == ("test", 1)
    await connection.close()


async def test_a_request_gets_its_reply_and_two_of_one_key_share_it(hub: HubSite) -> None:
    connection = await opened(hub)

    first, second, other = await asyncio.gather(
        connection.request(submit(), Submitted),
        connection.request(submit(), Submitted),
        connection.request(submit("k2"), Submitted),
    )

    assert first == second != other
    await connection.close()


async def test_a_refusal_is_an_exception_of_its_class(hub: HubSite) -> None:
    connection = await opened(hub)

    with pytest.raises(errors.NotFound):
        await connection.request(frames.CancelFrame(key="c", task=TaskId("none")), Done)
    await connection.close()


async def test_a_reply_of_another_kind_is_not_believed(hub: HubSite) -> None:
    connection = await opened(hub)

    with pytest.raises(errors.MalformedInput):
        await connection.request(submit(), Done)
    await connection.close()


async def test_requests_fail_when_the_connection_breaks(hub: HubSite) -> None:
    connection = await opened(hub)
    assert hub._running is not None
    hub._running.cancel()  # no answer will come
    waiting = asyncio.create_task(connection.request(submit(), Submitted))
    await asyncio.sleep(0)

    await hub.unlisten()

    with pytest.raises(ConnectionLost):
        await waiting
    assert isinstance(await connection.ended(), ConnectionLost)
    with pytest.raises(ConnectionLost):
        await connection.request(submit(), Submitted)
    await connection.close()


async def test_a_token_that_ends_ends_the_connection_for_good(hub: HubSite) -> None:
    connection = await opened(hub)
    (line,) = hub.switchboard._connections.values()

    hub.switchboard.revoke(line.identity.credential)

    assert isinstance(await connection.ended(), errors.NotAuthenticated)
    await connection.close()


async def test_what_keeps_a_client_out_is_an_exception(hub: HubSite) -> None:
    stranger = tokens.mint(CredentialKind.USER).text
    for token in ("", "nonsense", stranger):
        with pytest.raises(errors.NotAuthenticated):
            await Connection.open(Dial(url=hub.url, token=token), ignore)

    with pytest.raises(errors.InvalidInput):
        await Connection.open(Dial(url="http://hub.example", token="t"), ignore)
    await hub.unlisten()
    with pytest.raises(NotReached):
        await Connection.open(Dial(url=hub.url, token=stranger), ignore)


async def test_a_pinned_certificate_is_the_only_one_that_is_trusted(
    hub: HubSite, tmp_path: Path
) -> None:
    made = certificate.ensure_certificate(tmp_path, ["127.0.0.1"])
    await hub.unlisten()
    await hub.listen(tls=certificate.server_context(made))
    pin = made.fingerprint
    token = await hub.token(role=Role.VIEWER)

    connection = await Connection.open(Dial(url=hub.url, token=token, fingerprint=pin), ignore)
    await connection.close()
    for wrong in ("00" * 32, None):
        with pytest.raises(NotReached):
            await Connection.open(Dial(url=hub.url, token=token, fingerprint=wrong), ignore)
