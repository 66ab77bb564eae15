import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentcom.client import dialling, keepalive
from agentcom.client import link as links
from agentcom.client.link import Backoff, Link, LinkEvent, Lost, Opened, Received
from agentcom.hub.certificate import ensure_certificate, server_context
from agentcom.model import errors
from agentcom.protocol import frames
from agentcom.testing.waiting import PATIENCE_S
from agentcom.transport.problem import problem_bytes
from tests.client.fake_hub import TOKEN, FakeHub

HELLO = frames.MachineHello(agents=())


class Chance:
    """Always the same draw."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


class Events:
    """The events of a link, one at a time, with a deadline."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._queue: asyncio.Queue[LinkEvent | BaseException] = asyncio.Queue()
        self.task = asyncio.create_task(self._collect())

    async def next(self) -> LinkEvent:
        async with asyncio.timeout(PATIENCE_S):
            event = await self._queue.get()
        if isinstance(event, BaseException):
            raise event
        return event

    async def until_lost(self) -> Lost:
        while not isinstance(event := await self.next(), Lost):
            pass
        return event

    async def frame(self) -> frames.FromHub:
        while not isinstance(event := await self.next(), Received):
            pass
        return event.frame

    async def _collect(self) -> None:
        try:
            async for event in self.link.events():
                await self._queue.put(event)
        except errors.AgentComError as error:
            await self._queue.put(error)


@asynccontextmanager
async def linked(
    hub: FakeHub, *, token: str = TOKEN, fingerprint: str | None = None
) -> AsyncIterator[Events]:
    link = Link(hub.url, token, rng=Chance(), fingerprint=fingerprint)
    events = Events(link)
    try:
        yield events
    finally:
        await link.close()
        events.task.cancel()
        await asyncio.gather(events.task, return_exceptions=True)


async def test_frames_go_both_ways() -> None:
    async with FakeHub() as hub, linked(hub) as events:
        assert await events.next() == Opened()
        events.link.send(HELLO)

        assert await hub.expect(frames.MachineHello) == HELLO
        assert isinstance(await events.frame(), frames.Welcome)


async def test_a_lost_connection_is_dialled_again() -> None:
    async with FakeHub() as hub, linked(hub) as events:
        await events.next()
        events.link.send(HELLO)
        await events.frame()

        hub.cut()

        assert isinstance(await events.next(), Lost)
        assert await events.next() == Opened()


async def test_a_hub_that_is_away_is_dialled_until_it_is_there() -> None:
    hub = FakeHub()
    await hub.start()
    await hub.stop()
    async with linked(hub) as events:
        await asyncio.sleep(0)

        await hub.start()

        assert await events.next() == Opened()
        await hub.stop()


async def test_a_bad_token_ends_the_link_with_words_that_help() -> None:
    async with FakeHub() as hub, linked(hub, token="acm_mch_wrong") as events:
        with pytest.raises(errors.NotAuthenticated, match="agentcom join"):
            await events.next()

        assert hub.connections == 1


async def test_a_token_that_is_revoked_on_the_way_ends_the_link() -> None:
    async with FakeHub() as hub, linked(hub) as events:
        await events.next()
        events.link.send(HELLO)
        await events.frame()

        await hub.close(4401)

        await events.until_lost()
        with pytest.raises(errors.NotAuthenticated):
            await events.next()


async def test_a_machine_that_is_not_let_in_ends_the_link() -> None:
    async with FakeHub() as hub, linked(hub) as events:
        await events.next()
        events.link.send(HELLO)
        await events.frame()

        await hub.close(4403)

        await events.until_lost()
        with pytest.raises(errors.NotAllowed):
            await events.next()


async def test_two_processes_with_one_identity_do_not_fight_for_ever() -> None:
    async with FakeHub() as hub, linked(hub) as events:
        for _ in range(links.TAKEOVERS_MAX + 1):
            assert await events.next() == Opened()
            events.link.send(HELLO)
            await events.frame()
            await hub.close(4409)
            await events.until_lost()

        with pytest.raises(errors.Superseded, match="another process"):
            await events.next()


def test_takeovers_far_apart_are_restarts_and_no_mistake() -> None:
    takeovers = links.Takeovers()

    for count in range(3 * links.TAKEOVERS_MAX):
        takeovers.note(count * links.TAKEOVER_WINDOW_S / 2)


async def test_a_frame_that_is_not_understood_is_no_reason_to_hang_up() -> None:
    async with FakeHub() as hub, linked(hub) as events:
        await events.next()
        events.link.send(HELLO)
        await events.frame()

        await hub.send_text('{"type": "from-the-future"}')
        await hub.send_text("not json")
        await hub.send(frames.Beat(n=3))

        assert await events.frame() == frames.Beat(n=3)


async def test_a_link_that_is_dropped_says_lost_and_dials_again() -> None:
    async with FakeHub() as hub, linked(hub) as events:
        await events.next()
        events.link.drop()

        assert isinstance(await events.next(), Lost)
        assert await events.next() == Opened()


async def test_what_is_sent_before_the_goodbye_arrives() -> None:
    async with FakeHub() as hub, linked(hub) as events:
        await events.next()
        events.link.send(HELLO)

        await events.link.close()

        await hub.expect(frames.MachineHello)


async def test_a_slow_line_is_dropped_and_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SEND_QUEUE_MAX", 4)
    async with FakeHub() as hub, linked(hub) as events:
        await events.next()

        for _ in range(6):  # without an await in between the writer gets no turn
            events.link.send(HELLO)

        assert isinstance(await events.until_lost(), Lost)


async def test_a_busy_hub_is_asked_again_when_it_said() -> None:
    async with FakeHub() as hub:
        hub.refuse = (503, {"Retry-After": "7"})
        link = Link(hub.url, TOKEN, rng=Chance())
        with pytest.raises(dialling.NotReached) as refused:
            await link._dial()

    assert refused.value.retry_after_ms == 7_000


@pytest.mark.parametrize("status", [401, 403, 407])
async def test_a_refusal_of_something_before_the_hub_is_not_the_hubs_word(status: int) -> None:
    async with FakeHub() as hub, linked(hub) as events:
        hub.refuse = (status, {})
        async with asyncio.timeout(PATIENCE_S):
            await hub.refused.wait()

        hub.refuse = None

        assert await events.next() == Opened()


@pytest.mark.parametrize(
    ("body", "final"),
    [
        (b"", False),
        (b'{"message":"Forbidden"}', False),
        (b'{"code":"AccessDenied","status":403}', False),
        (problem_bytes(errors.NotAllowed("no")), True),
        (problem_bytes(errors.NotAuthenticated("no")), True),
        (problem_bytes(errors.Unavailable("later")), False),
    ],
    ids=["empty", "gateway", "foreign-code", "not-allowed", "not-authenticated", "unavailable"],
)
def test_only_a_problem_document_of_the_hub_is_final(body: bytes, final: bool) -> None:
    refused = dialling.refusal("wss://hub.example/ws", 403, body)

    assert isinstance(refused, dialling.NotReached) is not final


async def test_a_client_without_a_proxy_dials_directly() -> None:
    async with FakeHub() as hub:
        asked = dialling.Dial(url=hub.url, token=TOKEN, proxy=False)

        connection = await dialling.dial(asked)

        await connection.close()


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    async with FakeHub() as elsewhere, FakeHub() as hub:
        hub.refuse = (302, {"Location": f"ws://127.0.0.1:{elsewhere.port}/ws"})
        link = Link(hub.url, TOKEN, rng=Chance())
        with pytest.raises(dialling.NotReached):
            await link._dial()

        assert elsewhere.connections == 0


def test_pauses_double_up_to_a_bound_with_full_jitter() -> None:
    backoff = Backoff(Chance(0.999_999))

    pauses = [backoff.next_ms() for _ in range(9)]

    assert pauses == [499, 999, 1999, 3999, 7999, 15999, 29999, 29999, 29999]
    assert Backoff(Chance(0.0)).next_ms() == 0


def test_a_session_that_stands_starts_from_the_shortest_pause() -> None:
    backoff = Backoff(Chance(0.5))
    for _ in range(5):
        backoff.next_ms()

    backoff.settle()

    assert backoff.next_ms() == 250


def test_a_hint_of_the_hub_is_a_lower_bound_once() -> None:
    backoff = Backoff(Chance(0.5))
    backoff.hint(9_000)

    assert backoff.next_ms() == 9_250
    assert backoff.next_ms() == 500


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://127.0.0.1:7420", "ws://127.0.0.1:7420/ws"),
        ("ws://localhost:7420/", "ws://localhost:7420/ws"),
        ("https://hub.example.com", "wss://hub.example.com/ws"),
        ("wss://[::1]:7420/ws", "wss://[::1]:7420/ws"),
    ],
)
def test_addresses_are_completed(given: str, address: str) -> None:
    assert dialling.check_url(given) == address


@pytest.mark.parametrize(
    "url",
    ["http://hub.example.com", "ftp://127.0.0.1", "https://", "https://me:pw@hub", "hub:1"],
)
def test_an_address_that_would_leak_the_token_is_refused(url: str) -> None:
    with pytest.raises(errors.InvalidInput):
        dialling.check_url(url)


def test_clear_text_off_this_computer_needs_a_word() -> None:
    assert dialling.check_url("http://10.0.0.5:7420", insecure=True) == "ws://10.0.0.5:7420/ws"


@pytest.mark.parametrize("text", ["", "sha256:", "zz", "ab" * 31, "ab" * 33])
def test_a_fingerprint_must_be_whole(text: str) -> None:
    with pytest.raises(errors.InvalidInput):
        dialling.parse_fingerprint(text)


class Certificate:
    """A self-signed certificate, as a hub makes its own."""

    def __init__(self, folder: Path) -> None:
        made = ensure_certificate(folder / "tls", ["hub"])
        self.fingerprint = made.fingerprint
        self.context = server_context(made)


async def test_a_pinned_certificate_needs_no_authority(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    pin = f"sha256:{certificate.fingerprint}"
    async with FakeHub(tls=certificate.context) as hub, linked(hub, fingerprint=pin) as events:
        assert await events.next() == Opened()


async def test_another_certificate_gets_no_token(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    pin = hashlib.sha256(b"another").hexdigest()
    async with FakeHub(tls=certificate.context) as hub:
        link = Link(hub.url, TOKEN, rng=Chance(), fingerprint=pin)
        with pytest.raises(dialling.NotReached, match="join code"):
            await link._dial()

        assert hub.connections == 0


async def test_a_certificate_without_a_pin_needs_an_authority(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    async with FakeHub(tls=certificate.context) as hub:
        link = Link(hub.url, TOKEN, rng=Chance())
        with pytest.raises(dialling.NotReached, match="certificate"):
            await link._dial()

        assert hub.connections == 0


@pytest.mark.parametrize("secret", [True, False], ids=["tls", "clear"])
async def test_the_kernel_looks_for_a_hub_that_vanished(tmp_path: Path, *, secret: bool) -> None:
    certificate = Certificate(tmp_path)
    async with FakeHub(tls=certificate.context if secret else None) as hub:
        pin = certificate.fingerprint if secret else None
        line = await dialling.dial(dialling.Dial(url=hub.url, token=TOKEN, fingerprint=pin))

        raw = line.transport.get_extra_info("socket")
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == keepalive.INTERVAL_S
        await line.close()
