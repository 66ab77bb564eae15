"""What a hub does under ten times what it can: whom it refuses, what goes on, and when it is over.

Run `python -m bench.overload [--seconds 20] [--json FILE]`. The hub is a process of its own with
the settings of a first start. First the rate that it can keep up is measured (64 submits in
flight, each for a task that a machine ends at once). Then ten people flood it with ten times as
many submits over sockets that do not wait for answers, and read lists over HTTP as fast as they
are answered, while the machine goes on with what is queued, a second machine beats, and one more
person submits five tasks a second through the ordinary client. All is on the loopback of one
computer, bounded by time, and ends by itself.
"""

import argparse
import asyncio
import contextlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agentcom.client.hub import HubClient
from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AgentId
from agentcom.protocol import codec, frames
from agentcom.testing import hub_process
from agentcom.testing.hub_process import HubProcess
from agentcom.testing.peers import Pipe, peer, told
from bench import load

TIMES: Final = 10
FLOODERS: Final = 10
READERS: Final = 20  # connections that read lists, of the same people
QUIET_PER_S: Final = 5
AGENTS: Final = 16
TTL_MS: Final = 20_000
CALM_S: Final = 30.0  # in which it must be over
_TICK_S: Final = 0.02
_LEVEL: Final = re.compile(r"^agentcom_overload (\S+)$", re.MULTILINE)


@dataclass(slots=True)
class Seen:
    """What one process of load counted."""

    sent: int = 0
    taken: int = 0
    refused: int = 0
    unhinted: int = 0
    """Refusals that did not say when to come back."""
    failed: int = 0
    waits_ms: list[float] = field(default_factory=list)
    by_name: dict[str, float] = field(default_factory=dict)


# The machine that works, and the one that only beats ------------------------------------------


async def machine(pipe: Pipe, url: str, token: str, agents: int) -> None:
    """End tasks at once and beat every second until told; say how long acks and beats took."""
    ends, beats = Seen(), Seen()
    async with _socket(url, token) as socket:
        specs = tuple(AgentSpec(name=AgentId(f"a{n}"), runtime="bench") for n in range(agents))
        await _say(socket, frames.MachineHello(agents=specs, ttl_ms=TTL_MS))
        welcome = codec.decode_from_hub(await socket.recv(decode=False))
        assert isinstance(welcome, frames.Welcome), welcome
        pipe.send("ready")
        session = welcome.welcomed.session
        working = asyncio.create_task(_work(socket, ends, beats))
        beating = asyncio.create_task(_beat(socket, session, beats))
        await told(pipe)
        beating.cancel()
        await asyncio.wait([beating])
        if beats.by_name:  # sent, and not answered yet
            await asyncio.wait([working], timeout=1)
        working.cancel()
        await asyncio.wait([working])
    pipe.send((asdict(ends), asdict(beats)))


async def _work(socket: ClientConnection, ends: Seen, beats: Seen) -> None:
    finished: dict[str, float] = {}
    while True:
        frame = codec.decode_from_hub(await socket.recv(decode=False))
        match frame:
            case frames.Assign():
                task, fence = frame.assignment.task, frame.assignment.fence
                await _say(socket, frames.Accept(task=task, fence=fence))
                finished[task] = time.monotonic()
                await _say(socket, frames.Finish(task=task, fence=fence, result=load.RESULT))
                ends.sent += 1
            case frames.Ack():
                began = finished.pop(frame.task, None)
                if began is not None:
                    ends.taken += 1
                    ends.waits_ms.append((time.monotonic() - began) * 1_000)
            case frames.ErrorFrame():
                ends.refused += 1
            case frames.Beat():
                beats.taken += 1
                beats.waits_ms.append((time.monotonic() - beats.by_name.pop(str(frame.n))) * 1_000)
            case _:
                pass


async def _beat(socket: ClientConnection, session: int, beats: Seen) -> None:
    while True:
        await asyncio.sleep(1)
        beats.sent += 1
        beats.by_name[str(beats.sent)] = time.monotonic()
        await _say(socket, frames.HeartbeatFrame(n=beats.sent, session=session, held=()))


# Those who flood ------------------------------------------------------------------------------


async def flood(pipe: Pipe, url: str, tokens: Sequence[str]) -> None:
    """Submit at the rate that is told, whatever is answered, and read lists, until told."""
    rate, seconds = await told(pipe)
    seen, reads = Seen(), Seen()
    until = time.monotonic() + seconds
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(_socket(url, token)) for token in tokens]
        for socket in sockets:
            await _say(socket, frames.Hello())
            await socket.recv()
        pipe.send("ready")
        each = rate / len(sockets)
        work = [_submit(socket, f"u{n}", each, until, seen) for n, socket in enumerate(sockets)]
        work += [
            _hear(socket, f"u{n}", until - 0.5 * seconds, seen) for n, socket in enumerate(sockets)
        ]
        work += [_read(url, tokens, n % len(tokens), until, reads) for n in range(READERS)]
        running = [asyncio.create_task(part) for part in work]
        await asyncio.wait(running, timeout=seconds)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    pipe.send((asdict(seen), asdict(reads)))


async def _submit(
    socket: ClientConnection, name: str, per_s: float, until: float, seen: Seen
) -> None:
    number, began = 0, time.monotonic()
    with contextlib.suppress(ConnectionClosed):
        while (now := time.monotonic()) < until:
            due = int((now - began) * per_s)
            for number in range(number, due):  # noqa: B020 - goes on where it was
                frame = frames.SubmitFrame(key=f"{name}-{number}", tasks=(load.SPEC,))
                await _say(socket, frame)
                seen.sent += 1
            number = max(number, due)
            await asyncio.sleep(_TICK_S)


async def _hear(socket: ClientConnection, name: str, since: float, seen: Seen) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            frame = codec.decode_from_hub(await socket.recv(decode=False))
            if isinstance(frame, frames.ErrorFrame):
                seen.refused += 1
                seen.unhinted += not frame.retry_after_ms
            elif isinstance(frame, frames.ReplyFrame):
                seen.taken += 1
                if time.monotonic() > since:  # by then the shares are found
                    seen.by_name[name] = seen.by_name.get(name, 0) + 1


async def _read(url: str, tokens: Sequence[str], who: int, until: float, seen: Seen) -> None:
    # From an address of their own, as people have: what one address may ask is bounded, too.
    headers = {"Authorization": f"Bearer {tokens[who]}", "X-Forwarded-For": f"10.9.0.{who}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:
        while time.monotonic() < until:
            seen.sent += 1
            try:
                answer = await http.get("/api/v1/tasks?limit=10", timeout=30)
            except httpx.HTTPError:
                seen.failed += 1
                continue
            if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                seen.refused += 1
                seen.unhinted += not answer.headers.get("retry-after")
            elif answer.is_success:
                seen.taken += 1
            else:
                seen.failed += 1


# One who asks for little ----------------------------------------------------------------------


async def quiet(pipe: Pipe, url: str, token: str) -> None:
    """Submit some tasks a second with the ordinary client until told; say how long each took."""
    seen = Seen()
    async with await HubClient.connect(url, token) as hub:
        pipe.send("ready")
        enough = asyncio.Event()
        working = asyncio.create_task(_now_and_then(hub, seen, enough))
        await told(pipe)
        enough.set()
        await working
    pipe.send(asdict(seen))


async def _now_and_then(hub: HubClient, seen: Seen, enough: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        while not enough.is_set():
            group.create_task(_submit_one(hub, seen))
            await asyncio.sleep(1 / QUIET_PER_S)


async def _submit_one(hub: HubClient, seen: Seen) -> None:
    seen.sent += 1
    began = time.monotonic()
    await hub.submit([load.SPEC])
    seen.taken += 1
    seen.waits_ms.append((time.monotonic() - began) * 1_000)


# The measurement ------------------------------------------------------------------------------


def measure(
    *, seconds: float, times: float = TIMES, sustained_s: float = 5.0, least_per_s: float = 0
) -> dict[str, Any]:
    """Return what happened, as figures; at least so much is asked for, whatever was sustained."""
    with HubProcess() as hub:
        tokens = [hub.user(f"flood{n}") for n in range(FLOODERS)]
        modest, steady = hub.user("modest"), hub.user("steady")
        worker = hub.machine("worker")
        with peer(machine, hub.url, worker, AGENTS) as working:
            assert working.hear() == "ready"
            with peer(load.client, hub.url, steady) as client:
                assert client.hear() == "ready"
                client.ask(("hold", 0.5))
                ended, took = client.ask(("hold", sustained_s))
            sustained = ended / took
            asked = max(sustained * times, least_per_s)
            before = _drained(hub)
            with (
                peer(flood, hub.url, tokens) as flooding,
                peer(quiet, hub.url, modest) as asking,
            ):
                assert asking.hear() == "ready"
                assert flooding.ask((asked, seconds)) == "ready"
                samples = _watch(hub, seconds)
                submits, reads = flooding.hear(seconds + 60)
                over_s = _calm(hub)
                small = asking.ask("stop")
            after = _drained(hub)
            ends, beats = working.ask("stop")
        return {
            "sustained_per_s": round(sustained),
            "asked_per_s": round(asked),
            "seconds": seconds,
            "submits": _counts(submits, seconds),
            "shares": sorted(submits["by_name"].values()),
            "share_max_by_min": _evenness(submits["by_name"]),
            "reads": _counts(reads, seconds),
            "quiet": {**_counts(small, seconds), **_times(small["waits_ms"])},
            "finishes": {**_counts(ends, seconds), **_times(ends["waits_ms"])},
            "beats": {**_counts(beats, seconds), **_times(beats["waits_ms"])},
            "level_max": max(level for level, _ in samples),
            "memory_before_mib": round(before / (1 << 20), 1),
            "memory_max_mib": round(max(used for _, used in samples) / (1 << 20), 1),
            "memory_after_mib": round(after / (1 << 20), 1),
            "calm_after_s": round(over_s, 1),
        }


def _watch(hub: HubProcess, seconds: float) -> list[tuple[float, int]]:
    samples, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        samples.append((_level(hub), hub_process.resident_bytes(hub.pid)))
        time.sleep(0.5)
    return samples


def _level(hub: HubProcess) -> float:
    text = hub.metrics()
    found = _LEVEL.search(text)
    return float(found[1]) if found else 0.0


def _calm(hub: HubProcess) -> float:
    """Return how long it took until nothing is refused any more."""
    began = time.monotonic()
    while _level(hub):
        assert time.monotonic() - began < CALM_S, "it is not over"
        time.sleep(0.2)
    return time.monotonic() - began


def _drained(hub: HubProcess) -> int:
    """Wait until nothing is queued, and return the hub's memory in bytes."""
    until = time.monotonic() + 600
    while any(hub.status()["tasks"].values()):
        assert time.monotonic() < until, hub.status()
        time.sleep(0.2)
    return hub_process.resident_bytes(hub.pid)


def _counts(seen: dict[str, Any], seconds: float) -> dict[str, Any]:
    names = ("sent", "taken", "refused", "unhinted", "failed")
    return {name: seen[name] for name in names} | {"taken_per_s": round(seen["taken"] / seconds)}


def _times(waits: Sequence[float]) -> dict[str, float]:
    ordered = sorted(waits) or [0.0]
    return {
        "p50_ms": round(ordered[len(ordered) // 2], 1),
        "p99_ms": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 1),
        "max_ms": round(ordered[-1], 1),
    }


def _evenness(by_name: dict[str, int]) -> float:
    counts = sorted(by_name.values())
    return round(counts[-1] / counts[0], 2) if counts else 0.0


def _socket(url: str, token: str) -> connect:
    return connect(
        url.replace("http", "ws", 1) + "/ws",
        subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        ping_interval=None,
        max_queue=None,
        close_timeout=1,
    )


async def _say(socket: ClientConnection, frame: frames.Frame) -> None:
    await socket.send(codec.encode(frame), text=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = measure(seconds=asked.seconds)
    text = json.dumps(found, indent=2)
    print(text)
    if asked.json is not None:
        asked.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
