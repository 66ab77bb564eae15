"""NATS JetStream: a stream of tasks with a consumer group, and a stream of results."""

import asyncio

import nats
from nats.aio.msg import Msg
from nats.js.api import RetentionPolicy, StreamConfig

from bench.peers import job

_PAYLOAD = job.PAYLOAD.encode()


class System:
    """One asynchronous client; each publish waits for the stream's acknowledgement."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._ended = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    async def open(self) -> None:
        self._client = await nats.connect(self._server)
        self._stream = self._client.jetstream()
        for name in ("tasks", "results"):
            kept = RetentionPolicy.WORK_QUEUE if name == "tasks" else RetentionPolicy.LIMITS
            await self._stream.delete_stream(name) if await self._has(name) else None
            await self._stream.add_stream(StreamConfig(name=name, subjects=[name], retention=kept))
        await self._stream.subscribe("results", cb=self._heard)

    async def _has(self, name: str) -> bool:
        return name in {found.config.name for found in await self._stream.streams_info()}

    async def _heard(self, message: Msg) -> None:
        self._ended += 1
        if self._ended >= self._wanted:
            self._reached.set()
        await message.ack()

    async def submit(self, number: int) -> None:
        await self._stream.publish("tasks", b"%d %b" % (number, _PAYLOAD))

    async def ended(self, count: int) -> None:
        self._wanted = count
        self._reached.clear()
        if self._ended < count:
            await self._reached.wait()

    async def close(self) -> None:
        await self._client.close()


def work(server: str) -> None:
    """Be the worker: each slot is a subscription of one group, and takes one task at a time."""

    async def run() -> None:
        client = await nats.connect(server)
        stream = client.jetstream()

        async def handle(message: Msg) -> None:
            result = job.body(int(message.data.partition(b" ")[0]))
            await stream.publish("results", result.encode())
            await message.ack()

        for _ in range(job.SLOTS):
            await stream.subscribe("tasks", queue="workers", cb=handle, manual_ack=True)
        await asyncio.Event().wait()

    asyncio.run(run())
