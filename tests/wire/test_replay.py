"""A peer of a released version meets today's hub, and today's sidecar: nothing it relied on broke.

Whoever makes one of these fail breaks machines or hubs that people run. See
docs/decisions for what may change in the protocol, and how.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from agentcom.protocol import codec, frames
from agentcom.sidecar import processes
from agentcom.sidecar.shell import Sidecar
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.waiting import PATIENCE_S, until
from tests.sidecar.git_origin import Origin
from tests.sidecar.sidecar_world import QUICK, RUNTIMES, config, end_all
from tests.wire import record
from tests.wire.recording import Broken, Names, Player, load, recordings

PROTOCOL: Any = [frames.SUBPROTOCOL]
pytestmark = pytest.mark.parametrize("path", recordings(), ids=lambda path: path.stem)


def text_of(step: dict[str, Any]) -> str:
    return json.dumps(step["frame"])


async def awaited(step: dict[str, Any], changed: asyncio.Event) -> None:
    """Wait for the other side to say something more."""
    changed.clear()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await changed.wait()
    except TimeoutError:
        kinds = [frame["type"] for frame in step["got"]]
        raise Broken(f"no {step['frame']} came; unasked came {kinds}") from None


async def person(hub: RunningHub, step: dict[str, Any], names: Names, before: str) -> None:
    """Do what a person did."""
    if "submit" in step:
        answer = await hub.http.post("/api/v1/tasks", json=step["submit"])
        assert answer.is_success, answer.text
        names.learn(before, answer.json()["tasks"][0])
    elif "cancel" in step:
        await hub.http.post(f"/api/v1/tasks/{step['cancel']}/cancel", json={})
    else:

        async def ended() -> bool:
            shown = (await hub.http.get(f"/api/v1/tasks/{step['task']}")).json()
            return bool(shown["task"]["state"] == step["ended"])

        await until(ended)


async def test_a_machine_of_that_version_works_for_todays_hub(path: Path) -> None:
    names = Names({})
    player, changed = Player(load(path), "machine", names), asyncio.Event()
    tasks = [step["task"] for step in load(path) if "submit" in step]
    async with running_hub() as hub:
        token = {"Authorization": f"Bearer {(await hub.machine('m1')).token}"}
        async with connect(
            hub.ws_url, subprotocols=PROTOCOL, additional_headers=token, compression=None
        ) as socket:

            async def read() -> None:
                try:
                    async for text in socket:
                        player.take(json.loads(text))
                        changed.set()
                except ConnectionClosed:
                    pass

            reading = asyncio.create_task(read())
            for step in player.steps():
                if step["by"] == "wait":
                    await awaited(step, changed)
                elif step["by"] == "person":
                    await person(hub, step, names, tasks.pop(0) if "submit" in step else "")
                else:
                    await socket.send(text_of(step))
            await socket.close()
            await reading


class OldHub:
    """Says what a hub of that version said, and answers heartbeats as it did."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self._changed = asyncio.Event()
        self.over = asyncio.Event()
        self.failure: Broken | None = None

    async def serve(self, socket: ServerConnection) -> None:
        reading = asyncio.create_task(self._read(socket))
        try:
            for step in self._player.steps():
                if step["by"] == "wait":
                    await awaited(step, self._changed)
                elif step["by"] == "hub":
                    await socket.send(text_of(step))
        except Broken as error:
            self.failure = error
        self.over.set()
        await reading

    async def _read(self, socket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                frame = json.loads(text)
                if frame["type"] == "heartbeat":
                    await socket.send(json.dumps({"type": "beat", "n": frame["n"]}))
                self._player.take(frame)
                self._changed.set()


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_a_hub_of_that_version_has_todays_machine_work(path: Path, tmp_path: Path) -> None:
    names = Names({record.ORIGIN: Origin(tmp_path / "forge").url})
    hub = OldHub(Player(load(path), "hub", names))
    async with serve(hub.serve, "127.0.0.1", 0, subprotocols=PROTOCOL, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        made = config(tmp_path, f"http://127.0.0.1:{port}", QUICK)
        sidecar = Sidecar(made, runtimes=RUNTIMES)
        running = asyncio.create_task(sidecar.run(handle_signals=False))
        await hub.over.wait()
        sidecar.stop()
        await running
        end_all(made.home)

    assert hub.failure is None


def test_every_frame_of_that_version_is_understood_whole(path: Path) -> None:
    decoders: dict[str, Callable[[bytes], msgspec.Struct]] = {
        "machine": codec.decode_from_peer,
        "hub": codec.decode_from_hub,
    }
    seen = set()
    for step in load(path):
        if step["by"] == "person":
            continue
        frame = step["frame"]
        again = json.loads(codec.encode(decoders[step["by"]](json.dumps(frame).encode())))  # type: ignore[arg-type] # a frame
        Names({}).learn(frame, again)
        seen.add(frame["type"])

    assert {"machine", "welcome", "assign", "accept", "finish", "ack", "stop", "stopped"} <= seen
    assert {"heartbeat", "beat", "progress", "land", "landed"} <= seen
