"""What a connected agent costs that does nothing: memory, and CPU for its heartbeats.

The far end is as light as can be: a bare socket for each machine, with frames made by hand, so
that one process holds thousands. Each has its own token and one agent, and beats as often as
the hub told it to.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any, Final

from agentcom.client.link import Lost
from agentcom.model.errors import AgentComError
from agentcom.testing import peers
from agentcom.testing.hub_process import HubProcess
from agentcom.testing.light import LightSocket

OPENING_MAX: Final = 64  # upgrades at once: the hub looks up each token in its store
SETTLE_S: Final = 6.0  # more than one heartbeat of each machine
_SESSION: Final = re.compile(rb'"session":(\d+)')
_BEAT: Final = re.compile(rb'"heartbeat_ms":(\d+)')
_HELLO: Final = b'{"type":"machine","agents":[{"name":"a%d","runtime":"bench"}]}'


def measure(counts: Sequence[int], *, seconds: float) -> list[dict[str, Any]]:
    """Return a row for each number of machines, connected to one hub after the other."""
    peers.more_files()
    return [_measure(count, seconds) for count in counts]


def _measure(count: int, seconds: float) -> dict[str, Any]:
    with HubProcess() as hub:
        empty = hub.cost().private_bytes
        tokens = hub.machines(count)
        enrolled = hub.cost().private_bytes
        began = time.monotonic()
        with peers.peer(fleet, hub.url, tokens) as far:
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


def _end(far: peers.Peer) -> tuple[int, int]:
    far.tell("end")
    beats, alive = far.hear()
    return int(beats), int(alive)


async def fleet(pipe: peers.Pipe, url: str, tokens: list[str]) -> None:
    """Hold a connection for each token until told to stop."""
    gate = asyncio.Semaphore(OPENING_MAX)
    machines = await asyncio.gather(
        *(_open(url, token, number, gate) for number, token in enumerate(tokens))
    )
    pipe.send("open")
    await peers.told(pipe)
    alive = sum(not machine.lost for machine in machines)
    pipe.send((sum(machine.beats for machine in machines), alive))
    for machine in machines:
        machine.socket.abort()


async def _open(url: str, token: str, number: int, gate: asyncio.Semaphore) -> "Machine":
    machine = Machine(token, number)
    async with gate:
        await machine.socket.dial(url)
        await machine.welcomed
    return machine


class Machine:
    """One machine with one agent; it says hello, then beats."""

    __slots__ = (
        "_loop",
        "_n",
        "_number",
        "_session",
        "_timer",
        "beats",
        "lost",
        "socket",
        "welcomed",
    )

    def __init__(self, token: str, number: int) -> None:
        self.socket = LightSocket(token, heard=self._heard, ended=self._ended, opened=self._opened)
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._session = b""
        self._n = 0
        self._timer: asyncio.TimerHandle | None = None
        self.beats = 0
        self.lost = False
        self.welcomed: asyncio.Future[None] = self._loop.create_future()

    def _opened(self) -> None:
        self.socket.send(_HELLO % self._number)

    def _heard(self, frame: bytes) -> None:
        """Wait for the welcome, then count the answers to heartbeats."""
        if self.welcomed.done():
            self.beats += frame.startswith(b'{"type":"beat"')
            return
        found, pace = _SESSION.search(frame), _BEAT.search(frame)
        if found is not None and pace is not None:
            self._session = found[1]
            # Each at its own moment, as machines do that were not started together.
            self._beat_in(int(pace[1]) / 1_000, part=(self._number % 97) / 97)
            self.welcomed.set_result(None)

    def _ended(self, why: Lost | AgentComError) -> None:
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        if not self.welcomed.done():
            self.welcomed.set_exception(ConnectionError(str(why)))

    def _beat_in(self, pause_s: float, *, part: float = 1.0) -> None:
        self._timer = self._loop.call_later(pause_s * part, self._beat, pause_s)

    def _beat(self, pause_s: float) -> None:
        self._n += 1
        self.socket.send(b'{"type":"heartbeat","session":%b,"n":%d}' % (self._session, self._n))
        self._beat_in(pause_s)
