"""HTTP/1.1 on one connection, by hand: some thousand requests shall cost little."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agentcom.testing.waiting import PATIENCE_S


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class PlainHttp:
    """A client that asks one thing after another."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @classmethod
    @asynccontextmanager
    async def connect(cls, port: int) -> AsyncIterator["PlainHttp"]:
        it = cls(port)
        try:
            yield it
        finally:
            await it.hang_up()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> Answer:
        """Return the answer; of a stream that was let in only the head."""
        data = body if isinstance(body, bytes) else b"" if body is None else _json(body)
        media = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        lines = [f"{method} {path} HTTP/1.1", f"content-length: {len(data)}"]
        lines += ["host: 127.0.0.1"] if "host" not in (headers or {}) else []
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines += [f"content-type: {media}"] if data else []
        lines += [f"authorization: Bearer {token}"] if token else []
        lines += ["accept: text/event-stream"] if stream else []
        async with asyncio.timeout(PATIENCE_S):
            if self._writer is None:
                self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._writer.write("\r\n".join([*lines, "", ""]).encode() + data)
            return await self._answer(stream)

    async def _answer(self, stream: bool) -> Answer:
        reader = self._reader
        assert reader is not None
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(": ") for line in head[1:] if line)
        headers = {name.lower(): value for name, _, value in fields}
        status = int(head[0].split()[1])
        if stream and status == 200:
            await self.hang_up()
            return Answer(status, headers, b"")
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        if headers.get("connection") == "close":
            await self.hang_up()
        return Answer(status, headers, body)

    async def hang_up(self) -> None:
        """Close the connection; the next question opens another."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()
