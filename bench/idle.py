"""What a connected agent costs that does nothing: memory, and CPU for its heartbeats.

The far end is as light as can be: an asyncio protocol for each machine, with frames made by hand,
so that one process holds thousands. Each has its own token and one agent, and beats as often as
the hub told it to.
"""

import asyncio
import contextlib
import re
import resource
import socket
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from bench.hub_process import HubProcess
from bench.load import Peer, Pipe, peer, told

OPENING_MAX: Final = 64  # upgrades at once: the hub looks up each token in its store
SHORT_MAX: Final = 125  # RFC 6455 5.2: longer frames say their size in another way
SETTLE_S: Final = 6.0  # more than one heartbeat of each machine
_SESSION: Final = re.compile(rb'"session":(\d+)')
_BEAT: Final = re.compile(rb'"heartbeat_ms":(\d+)')
_HELLO: Final = b'{"type":"machine","agents":[{"name":"a%d","runtime":"bench"}]}'


def measure(counts: Sequence[int], *, seconds: float) -> list[dict[str, Any]]:
    """Return a row for each number of machines, connected to one hub after the other."""
    more_files()
    return [_measure(count, seconds) for count in counts]


def _measure(count: int, seconds: float) -> dict[str, Any]:
    with HubProcess() as hub:
        empty = hub.cost().private_bytes
        tokens = hub.machines(count)
        enrolled = hub.cost().private_bytes
        began = time.monotonic()
        with peer(fleet, hub.url, tokens) as far:
            far.hear(300)
            opened_s = time.monotonic() - began
            time.sleep(SETTLE_S)
            cpu_s, connected = hub.cpu_s(), hub.cost().private_bytes
            time.sleep(seconds)
            cpu_s = hub.cpu_s() - cpu_s
            beats, alive = _end(far)
    return {
        "machines": count,
        "alive_at_end": alive,
        "kib_each": (connected - enrolled) / 1_024 / count,
        "kib_each_with_enrolment": (connected - empty) / 1_024 / count,
        "opened_per_s": count / opened_s,
        "beats_answered": beats,
        "idle_cpu_percent": 100 * cpu_s / seconds,
    }


def _end(far: Peer) -> tuple[int, int]:
    far.tell("end")
    beats, alive = far.hear()
    return int(beats), int(alive)


def more_files() -> None:
    """Allow as many open sockets as the system does; processes started from here inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def fleet(pipe: Pipe, url: str, tokens: list[str]) -> None:
    """Hold a connection for each token until told to stop."""
    gate = asyncio.Semaphore(OPENING_MAX)
    machines = await asyncio.gather(
        *(_open(url, token, number, gate) for number, token in enumerate(tokens))
    )
    pipe.send("open")
    await told(pipe)
    alive = sum(not machine.lost for machine in machines)
    pipe.send((sum(machine.beats for machine in machines), alive))
    for machine in machines:
        machine.close()


async def _open(url: str, token: str, number: int, gate: asyncio.Semaphore) -> "Machine":
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    async with gate:
        _, machine = await loop.create_connection(
            lambda: Machine(token, number, loop), address.hostname or "", address.port or 0
        )
        await machine.welcomed
    return machine


class Machine(asyncio.Protocol):
    """One machine with one agent; it says hello, then beats."""

    __slots__ = (
        "_loop",
        "_n",
        "_number",
        "_opening",
        "_session",
        "_timer",
        "_token",
        "_transport",
        "beats",
        "lost",
        "welcomed",
    )

    def __init__(self, token: str, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._token = token
        self._number = number
        self._loop = loop
        self._opening: bytes | None = b""
        self._session = b""
        self._n = 0
        self._timer: asyncio.TimerHandle | None = None
        self.beats = 0
        self.lost = False
        self.welcomed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade, and say hello right behind it."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        raw: socket.socket = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        transport.write(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Protocol: agentcom.v1\r\n"
            b"Authorization: Bearer " + self._token.encode() + b"\r\n\r\n" + _masked(_HELLO % 0)
        )

    def data_received(self, data: bytes) -> None:
        """Wait for the welcome, then count the answers to heartbeats."""
        if self._opening is None:
            self.beats += data.count(b'"beat"')
            return
        self._opening += data
        found, pace = _SESSION.search(self._opening), _BEAT.search(self._opening)
        if found is not None and pace is not None:
            self._session, self._opening = found[1], None
            # Each at its own moment, as machines do that were not started together.
            self._beat_in(int(pace[1]) / 1_000, part=(self._number % 97) / 97)
            self.welcomed.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Note the end."""
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        if not self.welcomed.done():
            said = (self._opening or b"")[-300:]
            self.welcomed.set_exception(ConnectionError(f"{error}: {said!r}"))

    def close(self) -> None:
        """Let go."""
        with contextlib.suppress(RuntimeError):
            self._transport.abort()

    def _beat_in(self, pause_s: float, *, part: float = 1.0) -> None:
        self._timer = self._loop.call_later(pause_s * part, self._beat, pause_s)

    def _beat(self, pause_s: float) -> None:
        self._n += 1
        frame = b'{"type":"heartbeat","session":%b,"n":%d}' % (self._session, self._n)
        self._transport.write(_masked(frame))
        self._beat_in(pause_s)


def _masked(payload: bytes) -> bytes:
    """Return a text frame; a mask of zeros is a mask, and leaves the payload as it is."""
    size = len(payload)
    assert size <= SHORT_MAX
    return bytes((0x81, 0x80 | size)) + b"\0\0\0\0" + payload
