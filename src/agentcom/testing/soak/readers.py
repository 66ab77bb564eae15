"""A process of followers that stop reading when told to, and later go on where they were."""

import asyncio
import contextlib
from typing import Any, Final
from urllib.parse import urlsplit

from agentcom.client.follows import ALL
from agentcom.client.keys import new_key
from agentcom.client.link import Lost
from agentcom.model.errors import AgentComError
from agentcom.protocol import codec, frames
from agentcom.testing.light import LightSocket, connected
from agentcom.testing.peers import Pipe, told

AGAIN_S: Final = 0.2
_LOOK_S: Final = 0.05


async def readers(pipe: Pipe, /, url: str, token: str) -> None:
    """Do what the coordinator asks, each time a method's name and its arguments, until None."""
    crowd = Readers(url, token)
    try:
        while (asked := await told(pipe)) is not None:
            what, *rest = asked
            pipe.send(await getattr(crowd, what)(*rest))
    finally:
        crowd.end()


class Readers:
    """All followers of one process."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token
        self._all: list[_Reader] = []

    async def make(self, sockets: int, streams: int, task: str) -> None:
        """Have followers of everything over sockets, and of one task over event streams."""
        self._all += [_SocketReader(self._url, self._token) for _ in range(sockets)]
        self._all += [_StreamReader(self._url, self._token, task) for _ in range(streams)]

    async def come(self) -> None:
        """Let all follow, from where they were on."""
        for reader in self._all:
            reader.start()

    async def leave(self) -> None:
        """Let all go."""
        self.end()

    async def stall(self) -> None:
        """Let all stop reading."""
        for reader in self._all:
            reader.stall()

    async def resume(self) -> None:
        """Let all read on."""
        for reader in self._all:
            reader.resume()

    async def reach(self, seq: int, task_seq: int) -> None:
        """Return when all have read up to a sequence of all logs, or of the task's."""
        for reader in self._all:
            wanted = seq if isinstance(reader, _SocketReader) else task_seq
            while reader.last < wanted:  # noqa: ASYNC110 - the reader moves it
                await asyncio.sleep(_LOOK_S)

    async def look(self) -> list[dict[str, Any]]:
        """Return what each has read."""
        return [reader.shown() for reader in self._all]

    def end(self) -> None:
        """Let go of everything."""
        for reader in self._all:
            reader.end()


class _Reader:
    """One follower: it takes each sequence once, and notes what was missing."""

    kind: str

    def __init__(self) -> None:
        self.last = 0
        self.taken = 0
        self._repeated = 0
        self._begun = 0
        self._codes: list[int | None] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def stall(self) -> None:
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError

    def shown(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "last": self.last,
            "taken": self.taken,
            "repeated": self._repeated,
            "begun": self._begun,
            "codes": self._codes,
        }

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _take(self, seq: int) -> None:
        if seq <= self.last:
            self._repeated += 1
            return
        self.last = seq
        self.taken += 1

    async def _run(self) -> None:
        while True:
            self._begun += 1
            with contextlib.suppress(OSError):
                await self._follow()
            await asyncio.sleep(AGAIN_S)

    async def _follow(self) -> None:
        raise NotImplementedError


class _SocketReader(_Reader):
    kind = "socket"

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token
        self._socket: LightSocket | None = None
        super().__init__()

    def stall(self) -> None:
        if self._socket is not None:
            self._socket.pause()

    def resume(self) -> None:
        if self._socket is not None:
            self._socket.resume()

    def end(self) -> None:
        super().end()
        if self._socket is not None:
            self._socket.abort()

    async def _follow(self) -> None:
        ended: asyncio.Queue[Lost | AgentComError] = asyncio.Queue()
        light = LightSocket(self._token, heard=self._heard, ended=ended.put_nowait)
        self._socket = light
        await light.dial(self._url)
        light.send(codec.encode(frames.Hello()))
        asked = frames.Subscribe(key=new_key(), log=ALL, after=self.last)
        light.send(codec.encode(asked))
        why = await ended.get()
        self._codes.append(why.code if isinstance(why, Lost) else None)

    def _heard(self, payload: bytes) -> None:
        frame = codec.decode_from_hub(payload)
        if isinstance(frame, frames.EventFrame):
            self._take(frame.seq)


class _StreamReader(_Reader):
    kind = "stream"

    def __init__(self, url: str, token: str, task: str) -> None:
        self._url = url
        self._head = (
            f"GET /api/v1/tasks/{task}/events HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
            f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n"
            "Connection: close\r\n"
        )
        self._reading = asyncio.Event()
        self._reading.set()
        super().__init__()

    def stall(self) -> None:
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    async def _follow(self) -> None:
        reader, writer = await asyncio.open_connection(sock=await connected(self._url))
        try:
            writer.write(f"{self._head}Last-Event-ID: {self.last}\r\n\r\n".encode())
            async for line in reader:
                if line.startswith(b"id: "):
                    self._take(int(line[4:]))
                await self._reading.wait()
        finally:
            writer.close()
