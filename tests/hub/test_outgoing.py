"""What the hub sends goes to the address that was checked, within bounds, and nowhere else."""

import asyncio
import contextlib
import gc
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentcom.core.outgoing import AddressRefused
from agentcom.hub import certificate
from agentcom.hub.outgoing import ANSWER_BYTES, Outgoing, Unreachable
from agentcom.model.errors import InvalidInput
from agentcom.testing.listening import hanging_up, listening

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Site:
    """A server that notes what comes, and answers what it is told to."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.answer = OK
        self.silent = False
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        length = next(
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        )
        self.bodies.append(await reader.readexactly(length))
        if self.silent:
            await reader.read()
        writer.write(self.answer)


@asynccontextmanager
async def site(tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    made = Site()
    async with listening(made.serve, tls=tls) as door:
        made.port = door.port
        yield made


def named(*answers: Sequence[str]) -> tuple[Outgoing, list[str]]:
    """Return a client for whom every name leads to one of the answers, the last one for good."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return Outgoing(("hooks.example",), resolve=resolve), asked


async def test_a_request_goes_to_the_checked_address_with_the_name_in_host() -> None:
    client, asked = named(["127.0.0.1"])
    async with site() as there:
        url = f"http://hooks.example:{there.port}/a?b=c"
        reply = await client.post(url, b"{}", {"x-own": "1"})

    assert (reply.status, reply.body) == (200, b"ok")
    assert asked == ["hooks.example"]
    head = there.heads[0]
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert f"host: hooks.example:{there.port}".encode() in head.lower()
    assert b"accept-encoding: identity" in head.lower()
    assert there.bodies == [b"{}"]


async def test_a_name_that_leads_inside_is_refused_and_nothing_is_sent() -> None:
    async with site() as there:
        client = Outgoing(resolve=lambda _host, _port: _later(["93.184.215.14", "127.0.0.1"]))
        with pytest.raises(AddressRefused):
            await client.post(f"https://evil.example:{there.port}/", b"", {})
        local = Outgoing()
        for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0"):
            with pytest.raises(AddressRefused):
                await local.post(f"http://{host}:{there.port}/", b"", {})

    assert there.heads == []


async def _later(found: Sequence[str]) -> Sequence[str]:
    return found


async def test_a_name_that_leads_elsewhere_a_moment_later_is_looked_up_once() -> None:
    client, asked = named(["127.0.0.1"], ["10.0.0.1"])
    async with site() as there:
        await client.post(f"http://hooks.example:{there.port}/", b"", {})

    assert len(asked) == 1
    assert len(there.heads) == 1


async def test_a_redirect_is_not_followed() -> None:
    client, _ = named(["127.0.0.1"])
    async with site() as inside, site() as there:
        place = f"location: http://127.0.0.1:{inside.port}/\r\n".encode()
        there.answer = b"HTTP/1.1 302 Found\r\n" + place + b"content-length: 0\r\n\r\n"
        reply = await client.post(f"http://hooks.example:{there.port}/", b"", {})

    assert reply.status == 302
    assert inside.heads == []


async def test_an_answer_is_bounded_and_not_decompressed() -> None:
    client, _ = named(["127.0.0.1"])
    async with site() as there:
        big = b"\x1f\x8b" + b"a" * 3 * ANSWER_BYTES
        there.answer = (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n"
            + f"content-length: {len(big)}\r\n\r\n".encode()
            + big
        )
        reply = await client.post(f"http://hooks.example:{there.port}/", b"", {})

    assert reply.body == big[:ANSWER_BYTES]


async def test_an_endless_wait_ends() -> None:
    client, _ = named(["127.0.0.1"])
    async with site() as there:
        there.silent = True
        with pytest.raises(Unreachable, match="no answer in time"):
            await client.post(f"http://hooks.example:{there.port}/", b"", {}, total_s=0.2)


async def test_what_failed_is_said_without_the_address() -> None:
    client, _ = named(["127.0.0.1"])
    async with site() as there:
        port = there.port
    with pytest.raises(Unreachable) as caught:
        await client.post(f"http://hooks.example:{port}/bot123:SECRET/x", b"", {})

    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_no_log_of_any_level_has_the_address(caplog: pytest.LogCaptureFixture) -> None:
    client, _ = named(["127.0.0.1"])
    caplog.set_level(logging.DEBUG)
    async with site() as there:
        await client.post(f"http://hooks.example:{there.port}/bot123:SECRET/x?k=SECRET", b"", {})

    assert there.heads
    assert "SECRET" not in caplog.text


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = named(["127.0.0.1"])
    async with site() as proxy, site() as there:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await client.post(f"http://hooks.example:{there.port}/", b"", {})

    assert proxy.heads == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_certificate_is_checked_against_the_name(tmp_path: Path) -> None:
    made = certificate.ensure_certificate(tmp_path, ["hooks.example"])
    context = certificate.server_context(made)

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    allow = ("hooks.example", "other.example")
    knows = Outgoing(allow, certificates=made.certificate, resolve=resolve)
    stranger = Outgoing(allow, resolve=resolve)
    async with site(context) as there:
        reply = await knows.post(f"https://hooks.example:{there.port}/", b"", {})
        with pytest.raises(Unreachable, match="certificate"):
            await knows.post(f"https://other.example:{there.port}/", b"", {})
        with pytest.raises(Unreachable, match="certificate"):
            await stranger.post(f"https://hooks.example:{there.port}/", b"", {})
    gc.collect()  # asyncio of 3.11 leaves the sockets of handshakes that failed to the collector

    assert reply.status == 200
    assert len(there.heads) == 1


async def test_a_name_without_an_address_and_an_address_that_is_none() -> None:
    async def nowhere(_host: str, _port: int) -> Sequence[str]:
        raise OSError

    with pytest.raises(Unreachable):
        await Outgoing(resolve=nowhere).post("https://hooks.example/", b"", {})
    with pytest.raises(Unreachable):
        await Outgoing(resolve=lambda _h, _p: _later([])).post("https://a.example/", b"", {})
    with pytest.raises(InvalidInput):
        await Outgoing().post("https://u:p@hooks.example/", b"", {})


class Proxy:
    """Opens tunnels; or answers what it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n"
        self.leads_to = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b"\r\n")[0].decode())
        writer.write(self.answer)
        if b" 200 " not in self.answer:
            return
        back, forth = await asyncio.open_connection("127.0.0.1", self.leads_to)
        async with hanging_up(forth):
            await asyncio.gather(_carry(reader, forth), _carry(back, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


def through(port: int, *allow: str, authority: Path | None = None) -> Outgoing:
    proxy = f"http://127.0.0.1:{port}"
    resolve = lambda _host, _port: _later(["93.184.215.14"])  # noqa: E731 - as elsewhere here
    return Outgoing(allow, certificates=authority, proxy=proxy, resolve=resolve)


async def test_a_proxy_is_asked_for_the_checked_address_and_tls_is_for_the_name(
    tmp_path: Path,
) -> None:
    made, proxy = certificate.ensure_certificate(tmp_path, ["hooks.example"]), Proxy()
    async with site(certificate.server_context(made)) as there, listening(proxy.serve) as door:
        proxy.leads_to = there.port
        client = through(door.port, authority=made.certificate)
        reply = await client.post("https://hooks.example/a", b"{}", {})

    assert (reply.status, reply.body) == (200, b"ok")
    assert proxy.asked == ["CONNECT 93.184.215.14:443 HTTP/1.1"]
    assert b"host: hooks.example\r\n" in there.heads[0].lower()


async def test_what_leads_inside_is_refused_behind_a_proxy_too() -> None:
    proxy = Proxy()
    async with listening(proxy.serve) as door:
        client = Outgoing(
            proxy=f"http://127.0.0.1:{door.port}", resolve=lambda _h, _p: _later(["10.0.0.7"])
        )
        with pytest.raises(AddressRefused):
            await client.post("https://evil.example/", b"", {})

    assert proxy.asked == []


async def test_what_is_allowed_inside_is_reached_without_the_proxy() -> None:
    proxy = Proxy()
    async with site() as there, listening(proxy.serve) as door:
        client = Outgoing(("127.0.0.1",), proxy=f"http://127.0.0.1:{door.port}")
        await client.post(f"http://127.0.0.1:{there.port}/", b"", {})

    assert (len(there.heads), proxy.asked) == (1, [])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answered 407"),
        (b"SSH-2.0-x\r\n\r\n", "is none"),
        (b"", "no answer"),
        (b"HTTP/1.1 " + b"2" * 20_000, "no answer"),
    ],
)
async def test_a_proxy_that_opens_no_tunnel_is_said(answer: bytes, said: str) -> None:
    proxy = Proxy()
    proxy.answer = answer
    async with listening(proxy.serve) as door:
        with pytest.raises(Unreachable, match=said):
            await through(door.port).post("https://hooks.example/SECRET", b"", {})
