"""PgQueuer on PostgreSQL with asyncpg: FOR UPDATE SKIP LOCKED and NOTIFY. It stores no result."""

import asyncio

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench.peers import job

_ENDED = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"
_PAYLOAD = job.PAYLOAD.encode()


class System:
    """One asynchronous client with a pool of connections; one row for each call."""

    def __init__(self, server: str) -> None:
        self._server = server

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(self._server, min_size=4, max_size=16)
        self._watch = await asyncpg.connect(self._server)
        self._queries = Queries(AsyncpgPoolDriver(self._pool))
        await self._queries.install()

    async def submit(self, number: int) -> None:
        await self._queries.enqueue("body", b"%d %b" % (number, _PAYLOAD))

    async def ended(self, count: int) -> None:
        while True:
            if await self._watch.fetchval(_ENDED) >= count:
                return
            await asyncio.sleep(job.POLL_S)

    async def close(self) -> None:
        await self._watch.close()
        await self._pool.close()


def work(server: str) -> None:
    """Be the worker: its cap on tasks wants a batch of at most half of it."""

    async def run() -> None:
        async with asyncpg.create_pool(server, min_size=4, max_size=16) as pool:
            queuer = PgQueuer.from_asyncpg_pool(pool)

            @queuer.entrypoint("body")
            async def body(found: Job) -> None:
                job.body(int((found.payload or b"0").partition(b" ")[0]))

            await queuer.run(batch_size=job.SLOTS // 2, max_concurrent_tasks=job.SLOTS)

    asyncio.run(run())
