"""Peers that speak frames to a hub, and wait for what they expect."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AgentId
from agentcom.model.task import TaskSpec
from agentcom.protocol import codec, frames
from agentcom.testing.hub_site import HubSite
from agentcom.testing.waiting import PATIENCE_S

SPEC = TaskSpec(title="t", prompt="p")
F = TypeVar("F", bound=frames.FromHub)


class Peer:
    """One connection, frame by frame."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, *messages: frames.Frame | bytes | str) -> None:
        for message in messages:
            if isinstance(message, str):
                await self.socket.send(message)
            else:
                payload = message if isinstance(message, bytes) else codec.encode(message)
                await self.socket.send(payload, text=True)

    async def hear(self, kind: type[F]) -> F:
        """Return the next frame, which must be of this kind."""
        async with asyncio.timeout(PATIENCE_S):
            frame = codec.decode_from_hub(await self.socket.recv(decode=False))
        assert isinstance(frame, kind), frame
        return frame

    async def until(self, kind: type[F]) -> F:
        """Return the next frame of this kind, whatever comes before."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                frame = codec.decode_from_hub(await self.socket.recv(decode=False))
                if isinstance(frame, kind):
                    return frame

    async def ask(self, frame: frames.Frame) -> dict[str, Any]:
        """Return the reply to a request."""
        await self.say(frame)
        reply = await self.hear(frames.ReplyFrame)
        assert reply.key == getattr(frame, "key", None)
        document: dict[str, Any] = msgspec.json.decode(reply.reply)
        return document

    async def refusal(self, frame: frames.Frame | bytes) -> frames.ErrorFrame:
        await self.say(frame)
        return await self.hear(frames.ErrorFrame)

    async def close_code(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            try:
                while True:
                    await self.socket.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd is not None else 1006


@asynccontextmanager
async def peer(hub: HubSite, token: str, **options: Any) -> AsyncIterator[Peer]:
    """Connect without saying anything."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    options.setdefault("subprotocols", [Subprotocol(frames.SUBPROTOCOL)])
    url = hub.url.replace("http", "ws") + "/ws"
    async with connect(
        url, additional_headers=headers, ping_interval=None, close_timeout=1.0, **options
    ) as socket:
        yield Peer(socket)


@asynccontextmanager
async def client(hub: HubSite, token: str | None = None) -> AsyncIterator[Peer]:
    """Connect as a person's program and say hello."""
    async with peer(hub, token or await hub.token()) as it:
        await it.say(frames.Hello())
        await it.hear(frames.Ready)
        yield it


@asynccontextmanager
async def machine(
    hub: HubSite, name: str = "laptop", *, agents: tuple[str, ...] = ("bob",), token: str = ""
) -> AsyncIterator[Peer]:
    """Connect as a machine with agents and begin a session."""
    async with peer(hub, token or await hub.machine(name)) as it:
        await it.say(hello(*agents))
        yield it


def hello(*agents: str, **more: Any) -> frames.MachineHello:
    specs = tuple(AgentSpec(name=AgentId(name), runtime="test") for name in agents)
    return frames.MachineHello(agents=specs, **more)
