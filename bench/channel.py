"""One channel with many readers: how long a post takes to all of them, and what tasks feel of it.

Each reader is a WebSocket of its own that follows the channel, held by a light client; a few
programs share their tokens. The readers check that every post came once and in order. Tasks go
through the hub at a steady pace, first alone, then while somebody posts.

Run: python -m bench --only channel
"""

import asyncio
import contextlib
import itertools
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentcom.client.hub import HubClient
from agentcom.client.keys import new_key
from agentcom.client.link import Lost
from agentcom.model.errors import AgentComError
from agentcom.protocol import calls, codec, frames, told
from agentcom.testing import peers
from agentcom.testing.hub_process import HubProcess
from agentcom.testing.light import LightSocket
from agentcom.testing.peers import Peer, Pipe, peer
from bench.load import client, machine

CHANNEL: Final = "project"
PROGRAMS: Final = 20  # tokens that the readers share
OPENING_MAX: Final = 64  # upgrades at once: the hub looks up each token in its store
WORKERS: Final = 16
TEXT: Final = "a post of some length, as people write them " * 6
SETTLE_S: Final = 30.0  # in which the last post has to reach everybody
MEDIANS: Final = (
    *("p50_ms", "p99_ms", "all_p50_ms", "all_p99_ms", "cpu_us"),
    *("dispatch_p50_ms", "dispatch_p99_ms", "beside_p50_ms", "beside_p99_ms"),
)
_HELLO: Final = codec.encode(frames.Hello())
_LETTER: Final = b'{"type":"letter"'
_REPLY: Final = b'{"type":"reply"'
_SEQ: Final = b'"seq":'
_BODY: Final = b'"body":"'
_DIGITS: Final = re.compile(rb"\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything; rounds beside one that warms up."""

    readers: int = 1_000
    posts: int = 100
    posts_per_s: float = 10.0
    tasks_per_s: float = 50.0
    rounds: int = 3


QUICK: Final = Sizes(posts=50, rounds=1)
TINY: Final = Sizes(readers=5, posts=5, posts_per_s=20.0, rounds=1)


def measure(sizes: Sizes) -> dict[str, Any]:
    """Return how long posts take, and dispatches with and without them."""
    peers.more_files(sizes.readers + 100)
    with HubProcess() as hub:
        tokens = [hub.user(f"reader-{n}") for n in range(min(PROGRAMS, sizes.readers))]
        with (
            peer(readers, hub.url, tokens, sizes.readers) as crowd,
            peer(poster, hub.url, hub.user("poster")) as speaker,
            peer(client, hub.url, hub.user("ada")) as submitter,
            peer(machine, hub.url, hub.machine("w"), WORKERS) as far,
        ):
            for one in (crowd, speaker, submitter):
                one.hear(300)
            rows = [
                _round(hub, sizes, crowd=crowd, speaker=speaker, submitter=submitter, far=far)
                for _ in range(sizes.rounds + 1)
            ][1:]  # the first one warms up
            submitter.tell(None)
    return {
        "readers": sizes.readers,
        "posts_per_s": sizes.posts_per_s,
        "tasks_per_s": sizes.tasks_per_s,
        "posts": sizes.posts * sizes.rounds,
        "delivered": sum(row["delivered"] for row in rows),
        **{name: statistics.median(row[name] for row in rows) for name in MEDIANS},
        "rounds": rows,
    }


def _round(
    hub: HubProcess, sizes: Sizes, *, crowd: Peer, speaker: Peer, submitter: Peer, far: Peer
) -> dict[str, Any]:
    """Dispatch without posts, and with them."""
    count = int(sizes.posts / sizes.posts_per_s * sizes.tasks_per_s)
    before = hub.cpu_s()
    alone = _dispatch(sizes, count, submitter, far)
    spent = hub.cpu_s() - before
    speaker.tell((sizes.posts, sizes.posts_per_s))
    beside = _dispatch(sizes, count, submitter, far)
    speaker.hear(sizes.posts / sizes.posts_per_s + 60)
    each_ms, last_ms = crowd.ask(sizes.posts, SETTLE_S + 60)
    posting = hub.cpu_s() - before - 2 * spent  # less what the tasks alone had cost
    return {
        "delivered": len(each_ms),
        "p50_ms": _part(each_ms, 0.5),
        "p99_ms": _part(each_ms, 0.99),
        "all_p50_ms": _part(last_ms, 0.5),
        "all_p99_ms": _part(last_ms, 0.99),
        "dispatch_p50_ms": _part(alone, 0.5),
        "dispatch_p99_ms": _part(alone, 0.99),
        "beside_p50_ms": _part(beside, 0.5),
        "beside_p99_ms": _part(beside, 0.99),
        "cpu_us": posting / len(each_ms) * 1e6,
    }


def _dispatch(sizes: Sizes, count: int, submitter: Peer, far: Peer) -> list[float]:
    """Return times from the call of submit to the first line of the handler."""
    far.ask("work")
    submitter.tell(("pace", sizes.tasks_per_s, count))
    called: dict[str, int] = submitter.hear(count / sizes.tasks_per_s + 60)
    far.tell("stop")
    began: dict[str, int] = far.hear()
    return [(began[task] - at) / 1e6 for task, at in called.items()]


def _part(times: Sequence[float], part: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


async def poster(pipe: Pipe, url: str, token: str) -> None:
    """Post as often and as fast as told; each post says when it was called for."""
    async with await HubClient.connect(url, token) as hub:
        pipe.send("ready")
        while (asked := await peers.told(pipe)) is not None:
            count, per_s = asked
            first = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    await asyncio.sleep(max(0.0, first + number / per_s - time.monotonic()))
                    group.create_task(_post(hub))
            pipe.send("posted")


async def _post(hub: HubClient) -> None:
    call = calls.ChannelPost(channel=CHANNEL, body=f"{time.monotonic_ns()} {TEXT}")
    await hub.http.do(call, told.Sent, key=new_key())


async def readers(pipe: Pipe, url: str, tokens: list[str], count: int) -> None:
    """Hold that many followers; say what came, each time so many posts were made."""
    gate, crowd = asyncio.Semaphore(OPENING_MAX), Crowd()
    every = [Reader(token, crowd) for token in itertools.islice(itertools.cycle(tokens), count)]
    await asyncio.gather(*(reader.open(url, gate) for reader in every))
    pipe.send("open")
    while (posts := await peers.told(pipe)) is not None:
        await crowd.reached(posts * count)
        arrived = [reader.take() for reader in every]
        each = [ms for one in arrived for ms in one]
        last = [max(row) for row in zip(*arrived, strict=True)]
        pipe.send((each, last))
    for reader in every:
        reader.socket.abort()


class Crowd:
    """Counts what came to all readers."""

    def __init__(self) -> None:
        self._came = 0
        self._wanted = 0
        self._enough = asyncio.Event()
        self._wrong: str | None = None

    def got(self) -> None:
        """Count one."""
        self._came += 1
        if self._came >= self._wanted > 0:
            self._enough.set()

    def failed(self, why: str) -> None:
        """End the run: a reader got something wrong, or nothing more."""
        self._wrong = self._wrong or why
        self._enough.set()

    async def reached(self, count: int) -> None:
        """Return when so many have come, and begin to count anew.

        Raises:
            RuntimeError: they do not come, or a reader failed.
        """
        self._wanted = count
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while self._came < count and self._wrong is None:
                    await self._enough.wait()
        if self._wrong is not None or self._came != count:
            raise RuntimeError(f"{self._came:,} of {count:,} came: {self._wrong or 'too slow'}")
        self._came = self._wanted = 0
        self._enough.clear()


class Reader:
    """One follower of the channel; it fails if a post is missing, twice, or out of order."""

    __slots__ = ("_after", "_crowd", "_ready", "_times", "socket")

    def __init__(self, token: str, crowd: Crowd) -> None:
        self._crowd = crowd
        self.socket = LightSocket(token, heard=self._heard, ended=self._ended, opened=self._opened)
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._after = 0
        self._times: list[float] = []

    async def open(self, url: str, gate: asyncio.Semaphore) -> None:
        """Connect and subscribe."""
        async with gate:
            await self.socket.dial(url)
            await self._ready

    def take(self) -> list[float]:
        """Return how long each post took since the last look, in order, in milliseconds."""
        times, self._times = self._times, []
        return times

    def _opened(self) -> None:
        log = f"channel/{CHANNEL}"
        subscribe = frames.Subscribe(key=new_key(), log=log, live_only=True)
        self.socket.send(_HELLO)
        self.socket.send(codec.encode(subscribe))

    def _heard(self, frame: bytes) -> None:
        if frame.startswith(_LETTER):
            now = time.monotonic_ns()
            self._times.append((now - _number(frame, _BODY)) / 1e6)
            seq = _number(frame, _SEQ)
            if self._after and seq != self._after + 1:
                self._crowd.failed(f"post {seq} came after {self._after}")
            self._after = seq
            self._crowd.got()
        elif frame.startswith(_REPLY) and not self._ready.done():
            self._ready.set_result(None)

    def _ended(self, why: Lost | AgentComError) -> None:
        self._crowd.failed(str(why))
        if not self._ready.done():
            self._ready.set_exception(ConnectionError(str(why)))


def _number(frame: bytes, mark: bytes) -> int:
    """Return the number behind a mark."""
    found = _DIGITS.match(frame, frame.index(mark) + len(mark))
    assert found is not None
    return int(found[0])
