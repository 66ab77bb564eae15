"""Celery with Redis as broker and result store, prefork children, default settings."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import celery
import redis

from bench.peers import job

SERVER = os.environ.get("BENCH_PEERS_SERVER", "redis://127.0.0.1:1/0")
app = celery.Celery("bench", broker=SERVER, backend=SERVER)
app.conf.worker_redirect_stdouts = False


@app.task(name="bench.body")
def body(number: int, _payload: str) -> str:
    """Be the task."""
    return job.body(number)


class System:
    """Eight threads that call `apply_async`; what has ended is read by MGET, which is kind."""

    def __init__(self, server: str) -> None:
        self._redis = redis.Redis.from_url(server)
        self._threads = ThreadPoolExecutor(job.THREADS)
        self._results = job.Results(lambda keys: asyncio.to_thread(self._redis.mget, keys))

    async def open(self) -> None:
        self._redis.flushdb()

    async def submit(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self._results.expect(await loop.run_in_executor(self._threads, self._submit, number))

    def _submit(self, number: int) -> str:
        sent = body.apply_async((number, job.PAYLOAD), ignore_result=False)
        return f"celery-task-meta-{sent.id}"

    async def ended(self, count: int) -> None:
        await self._results.ended(count)

    async def close(self) -> None:
        self._threads.shutdown()
        self._redis.close()


def work(_server: str) -> None:
    """Be the worker."""
    app.worker_main(["worker", f"--concurrency={job.SLOTS}", "--loglevel=ERROR"])
