"""Starting supervisors: each is a fork of one small program, the fork server."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from agentcom.sidecar import attempt_files, fork_server

START_MS_MAX: Final = 30_000
"""A supervisor that is not ready by then is broken; it is killed (a loaded machine needs 1 s)."""
END_MS_MAX: Final = 5_000
"""A fork server ends in milliseconds once it gets no more orders; then it is killed."""


class Supervisors:
    """Starts the supervisors of one machine."""

    def __init__(self) -> None:
        self._kept = False
        self._server: _Server | None = None
        self._starting = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the fork server from one start to the next; else each has one of its own."""
        self._kept = True
        ahead = asyncio.create_task(self._reached())
        try:
            yield
        finally:
            self._kept = False
            await asyncio.gather(ahead, return_exceptions=True)
            await self._close()

    async def start(self, folder: Path) -> bool:
        """Run the order in `folder`; tell whether its agent was started, once that is known."""
        runs = False
        try:
            async with asyncio.timeout(START_MS_MAX / 1000):
                runs = await self._start(folder)
        except TimeoutError:
            await self._close()  # the next start has a new one
        if not self._kept:
            await self._close()
        return runs

    async def _start(self, folder: Path) -> bool:
        runs = await (await self._reached()).start(folder)
        if runs or not (folder / attempt_files.LAUNCH).exists():
            return runs
        return await (await self._reached()).start(folder)  # it was killed before it obeyed

    async def _reached(self) -> "_Server":
        async with self._starting:
            if self._server is None or not self._server.serves:
                await self._close()
                self._server = await _Server.started()
            return self._server

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.close()


class _Server:
    """One running fork server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Future[bool]] = {}
        self._newest = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def started(cls) -> "_Server":
        """Start the program."""
        package_root = Path(fork_server.__file__).parents[2]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-S", "-P", "-m", fork_server.__name__),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": str(package_root), "PATH": os.defpath},
            cwd="/",
            start_new_session=True,  # what a terminal sends to the sidecar is not for it
        )
        return cls(process)

    @property
    def serves(self) -> bool:
        """Whether it takes orders, as far as is known."""
        return not self._reading.done()

    async def start(self, folder: Path) -> bool:
        """Have the order in `folder` run; False: it could not be, or the server is gone."""
        assert self._process.stdin is not None
        self._newest += 1
        number = self._newest
        runs = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._process.stdin.write(json.dumps([number, str(folder)]).encode() + b"\n")
            return self.serves and await runs
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """End it, once it has answered; the supervisors stay."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._waiting:
            await asyncio.wait(list(self._waiting.values()), timeout=END_MS_MAX / 1000)
        try:
            async with asyncio.timeout(END_MS_MAX / 1000):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            number, code = map(int, line.split())
            waiting = self._waiting.get(number)
            if waiting is not None and not waiting.done():
                waiting.set_result(code == 0)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(False)
