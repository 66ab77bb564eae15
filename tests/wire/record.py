"""Write a recording of the version that is installed: python -m tests.wire.record [NAME]

Do this when a version is released, and only then: a recording says what is out there.
"""

import asyncio
import json
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from agentcom import __version__
from agentcom.protocol import frames
from agentcom.sidecar.shell import Sidecar
from agentcom.testing.hub import running_hub
from agentcom.testing.waiting import until
from tests.sidecar.git_origin import Origin
from tests.sidecar.sidecar_world import QUICK, RUNTIMES, WRITE, config, end_all, prompt
from tests.wire.recording import FOLDER

ORIGIN = "/srv/git/api.git"
NEVER = "/srv/never"
_ENDED = ("completed", "failed", "cancelled")


class Tape:
    """The steps, with nothing in them that names this computer."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places
        self.steps: list[dict[str, Any]] = []

    def note(self, **step: Any) -> dict[str, Any]:
        text = json.dumps(step)
        for place, name in self._places.items():
            text = text.replace(place, name)
        clean: dict[str, Any] = json.loads(text)
        if clean.get("frame", {}).get("type") == "machine":
            clean["frame"]["host"] = {"os": "Linux 6.1", "arch": "x86_64", "agentcom": __version__}
        if clean not in self.steps or "frame" not in clean:  # a repeat tells nothing new
            self.steps.append(clean)
        return clean


@asynccontextmanager
async def between(hub_url: str, tape: Tape) -> AsyncIterator[str]:
    """Pass frames on between a machine and its hub, and note them."""

    async def one(machine: ServerConnection) -> None:
        assert machine.request is not None
        token = {"Authorization": machine.request.headers["Authorization"]}
        protocol: Any = [frames.SUBPROTOCOL]
        where = hub_url.replace("http", "ws", 1) + "/ws"
        async with connect(where, subprotocols=protocol, additional_headers=token) as hub:
            await asyncio.gather(_pass(machine, hub, "machine"), _pass(hub, machine, "hub"))

    async def _pass(
        here: ServerConnection | ClientConnection,
        there: ServerConnection | ClientConnection,
        by: str,
    ) -> None:
        try:
            async for text in here:
                tape.note(by=by, frame=json.loads(text))
                await there.send(text)
        except ConnectionClosed:
            pass
        await there.close()

    protocol: Any = [frames.SUBPROTOCOL]
    async with serve(one, "127.0.0.1", 0, subprotocols=protocol) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def record(root: Path) -> list[dict[str, Any]]:
    """Run a hub and a machine, have three tasks done, and return what was said."""
    origin = Origin(root / "forge")
    tape = Tape({origin.url: ORIGIN, str(root): "/srv", socket.gethostname(): "hub"})
    async with running_hub(home=root / "hub") as hub, between(hub.url, tape) as url:
        made = msgspec.structs.replace(
            config(root, url, QUICK), token=(await hub.machine("m1")).token
        )
        sidecar = Sidecar(made, runtimes=RUNTIMES)
        running = asyncio.create_task(sidecar.run(handle_signals=False))

        async def state(task: str) -> str:
            return str((await hub.http.get(f"/api/v1/tasks/{task}")).json()["task"]["state"])

        async def submit(**fields: Any) -> str:
            asked = {"title": "A task", **fields}
            step = tape.note(by="person", submit=asked)  # before what follows from it
            answer = (await hub.http.post("/api/v1/tasks", json=asked)).json()
            step["task"] = answer["tasks"][0]
            return str(answer["tasks"][0])

        async def ended(task: str) -> None:
            async def over() -> bool:
                return await state(task) in _ENDED

            await until(over)
            tape.note(by="person", ended=await state(task), task=task)

        await ended(await submit(prompt=prompt({"say": "hello"})))
        landing = {"repo": origin.url, "base": "main", "verify": ["true"], "land": "merge"}
        await ended(await submit(prompt=prompt(WRITE), **landing))
        task = await submit(prompt=prompt({"wait_for": NEVER}))

        async def works() -> bool:
            return await state(task) == "running"

        await until(works)
        tape.note(by="person", cancel=task)
        await hub.http.post(f"/api/v1/tasks/{task}/cancel", json={})
        await ended(task)
        sidecar.stop()
        await running
        end_all(made.home)
    return tape.steps


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else f"v{frames.VERSION}-{__version__}"
    with tempfile.TemporaryDirectory() as folder:
        steps = asyncio.run(record(Path(folder)))
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.jsonl"
    path.write_text("".join(json.dumps(step, sort_keys=True) + "\n" for step in steps), "utf-8")
    sys.stdout.write(f"{path}: {len(steps)} steps\n")


if __name__ == "__main__":
    main()
