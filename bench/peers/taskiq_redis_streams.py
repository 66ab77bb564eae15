"""taskiq with Redis streams as broker and Redis as result store, default settings."""

import asyncio

import redis.asyncio
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench.peers import job


def _broker(server: str) -> RedisStreamBroker:
    # From the first message on: the default is those that come after the first worker.
    broker = RedisStreamBroker(server, consumer_id="0")
    return broker.with_result_backend(RedisAsyncResultBackend(server))


async def body(number: int, _payload: str) -> str:
    """Be the task."""
    return job.body(number)


class System:
    """One asynchronous client; what has ended is read by MGET."""

    def __init__(self, server: str) -> None:
        self._broker = _broker(server)
        self._task = self._broker.register_task(body, task_name="body")
        self._redis = redis.asyncio.Redis.from_url(server)
        self._results = job.Results(self._redis.mget)

    async def open(self) -> None:
        await self._redis.flushdb()
        await self._broker.startup()

    async def submit(self, number: int) -> None:
        self._results.expect((await self._task.kiq(number, job.PAYLOAD)).task_id)

    async def ended(self, count: int) -> None:
        await self._results.ended(count)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._broker.shutdown()


def work(server: str) -> None:
    """Be the worker."""

    async def run() -> None:
        broker = _broker(server)
        broker.is_worker_process = True
        broker.register_task(body, task_name="body")
        await run_receiver_task(broker, run_startup=True, max_async_tasks=job.SLOTS)

    asyncio.run(run())
