"""The server itself: loopback sockets around the pure `answers.answer`, and the request log."""

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec

from agentcom.model import errors
from agentcom.testing.listening import Door
from agentcom.testing.mock_llm import answers, http
from agentcom.testing.mock_llm.answers import Entry, Outcome

BEAT_S: Final = 1.0
"""Between the comments of a stream that says nothing."""

Log = Callable[[Entry], None]


class Server:
    """A running model server."""

    def __init__(self, port: int, *, host: str) -> None:
        self.port: Final = port
        self.url: Final = f"http://{f'[{host}]' if ':' in host else host}:{port}"


@contextlib.asynccontextmanager
async def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    log: Log,
    latency_ms: int = 0,
    port_file: Path | None = None,
) -> AsyncIterator[Server]:
    """Serve until the context ends; `port` 0 takes a free one, `port_file` tells which.

    Raises:
        InvalidInput: `host` is not a loopback address.
    """
    _check_loopback(host)
    model = _Model(log, latency_ms=latency_ms)
    door = Door(model.serve, host=host, line_bytes_max=http.HEAD_BYTES_MAX)
    door.open(port)
    server = Server(door.port, host=host)
    try:
        if port_file is not None:
            await asyncio.to_thread(_announce, port_file, server.port)
        yield server
    finally:
        await door.close()


def json_lines(write: Callable[[bytes], object]) -> Log:
    """Return a log that writes each request as one line of JSON."""

    def log(entry: Entry) -> None:
        write(msgspec.json.encode(entry) + b"\n")

    return log


class _Model:
    """Answers the requests of a connection, one after the other."""

    def __init__(self, log: Log, *, latency_ms: int) -> None:
        self._log = log
        self._latency_ms = latency_ms

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until either side has had enough."""
        while await self._turn(reader, writer):
            pass

    async def _turn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False closes the connection."""
        try:
            request = await http.read_request(reader)
        except errors.AgentComError as error:
            bad = Entry(method="", path="", status=error.status, note=error.message)
            self._log(bad)
            await _send_body(writer, Outcome(entry=bad))
            return False
        if request is None:
            return False
        if "100-continue" in request.headers.get("expect", ""):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        outcome = answers.answer(request)
        self._log(outcome.entry)
        await asyncio.sleep((self._latency_ms + outcome.delay_ms) / 1000)
        if outcome.silent:
            await _stay_silent(reader, writer, streamed=outcome.streamed)
            self._log(msgspec.structs.replace(outcome.entry, note="client left"))
            return False
        if outcome.events is not None:
            await _send_events(writer, outcome)
        else:
            await _send_body(writer, outcome, bodiless=request.method == "HEAD")
        return request.headers.get("connection", "").lower() != "close"


async def _send_body(
    writer: asyncio.StreamWriter, outcome: Outcome, *, bodiless: bool = False
) -> None:
    length = ("content-length", str(len(outcome.body)))
    kind = ("content-type", "application/json")
    writer.write(http.head(outcome.entry.status, [kind, length, *outcome.headers]))
    writer.write(b"" if bodiless else outcome.body)
    await writer.drain()


async def _send_events(writer: asyncio.StreamWriter, outcome: Outcome) -> None:
    _open_stream(writer)
    for event in outcome.events or ():
        name = f"event: {event.name}\n" if event.name else ""
        writer.write(http.chunk(f"{name}data: {event.data}\n\n".encode()))
        await writer.drain()
    writer.write(http.chunk(b""))
    await writer.drain()


async def _stay_silent(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, streamed: bool
) -> None:
    """Return when the client has gone; comments keep a stream open without saying anything."""
    if streamed:
        _open_stream(writer)
    with contextlib.suppress(ConnectionError):
        while not await _left(reader):
            if streamed:
                writer.write(http.chunk(b": still here\n\n"))
                await writer.drain()


async def _left(reader: asyncio.StreamReader) -> bool:
    try:
        return not await asyncio.wait_for(reader.read(1), BEAT_S)
    except TimeoutError:
        return False


def _open_stream(writer: asyncio.StreamWriter) -> None:
    kind = ("content-type", "text/event-stream")
    still = ("cache-control", "no-cache")
    writer.write(http.head(200, [kind, still, ("transfer-encoding", "chunked")]))


def _check_loopback(host: str) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise errors.InvalidInput("host", "the mock model server binds loopback only")


def _announce(port_file: Path, port: int) -> None:
    # Renamed into place: a reader never sees half a number.
    draft = port_file.with_name(f"{port_file.name}.new")
    draft.write_text(f"{port}\n", "utf-8")
    draft.replace(port_file)
