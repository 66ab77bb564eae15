"""Procrastinate on PostgreSQL: one row for each task, LISTEN and NOTIFY. It stores no result."""

import asyncio

import procrastinate
import psycopg

from bench.peers import job

_ENDED = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"


def _app(server: str) -> tuple[procrastinate.App, procrastinate.tasks.Task]:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=server, max_size=20))

    @app.task(name="body")
    async def body(number: int, **_payload: str) -> str:
        return job.body(number)

    return app, body


class System:
    """One asynchronous client with a pool of connections."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._app, self._body = _app(server)

    async def open(self) -> None:
        await self._app.open_async()
        await self._app.schema_manager.apply_schema_async()
        self._watch = await psycopg.AsyncConnection.connect(self._server, autocommit=True)

    async def submit(self, number: int) -> None:
        await self._body.defer_async(number=number, payload=job.PAYLOAD)

    async def ended(self, count: int) -> None:
        while True:
            row = await (await self._watch.execute(_ENDED)).fetchone()
            if row is not None and row[0] >= count:
                return
            await asyncio.sleep(job.POLL_S)

    async def close(self) -> None:
        await self._watch.close()
        await self._app.close_async()


def work(server: str) -> None:
    """Be the worker."""

    async def run() -> None:
        app, _ = _app(server)
        async with app.open_async():
            await app.run_worker_async(concurrency=job.SLOTS, install_signal_handlers=False)

    asyncio.run(run())
