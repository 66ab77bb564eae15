"""Dask.distributed: a scheduler in memory, one worker process with threads. Nothing is durable.

A submit has no acknowledgement, so the task's end is waited for: 64 tasks are in flight.
"""

import asyncio

import distributed

from bench.peers import job


def body(number: int, _payload: str) -> str:
    """Be the task."""
    return job.body(number)


class System:
    """One asynchronous client."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._ended = 0
        self._next = asyncio.Event()

    async def open(self) -> None:
        self._client = await distributed.Client(self._server, asynchronous=True)

    async def submit(self, number: int) -> None:
        await self._client.submit(body, number, job.PAYLOAD, pure=False)
        self._ended += 1
        self._next.set()

    async def ended(self, count: int) -> None:
        while self._ended < count:
            self._next.clear()
            await self._next.wait()

    async def close(self) -> None:
        await self._client.close()


def work(server: str) -> None:
    """Be the worker."""

    async def run() -> None:
        async with distributed.Worker(server, nthreads=job.SLOTS, dashboard=False) as worker:
            await worker.finished()

    asyncio.run(run())
