"""Opens what a power loss left, with the real store, and judges it."""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from agentcom.model.batch import Table
from agentcom.model.errors import StoreRefused
from agentcom.store import sqlite_open
from agentcom.store.base import Committed
from agentcom.store.failures import StoreFailed
from agentcom.store.sqlite import SMALL, SqliteOptions, SqliteStore
from agentcom.testing.crash import life
from agentcom.testing.crash.recording import STORE, Content, Recording, read_content
from agentcom.testing.store_rows import batch, new_task, task

AFTER: Final = "after"
VERIFY_EVERY: Final = 8
"""States between two that are verified in full although equal content was verified before."""
AGAIN_EVERY: Final = 16
"""States between two that are opened a second time, with room set aside as a hub does it."""
_RESERVED_AT: Final = 20  # in the header: bytes at the end of each page that hold its checksum
_ROOM: Final = SqliteOptions(wal_bytes=64 << 10, ballast_bytes=0)


class Fault(StrEnum):
    """What a state can be convicted of."""

    LOST = "lost"
    CORRUPT = "corrupt"
    BROKEN = "broken"


class Violation(Exception):
    """A promise is broken."""

    def __init__(self, fault: Fault, what: str) -> None:
        super().__init__(f"{fault}: {what}")
        self.fault = fault


class Judge:
    """Judges the states of one recording, in a folder of its own (best one in memory)."""

    def __init__(self, folder: Path, recording: Recording) -> None:
        self._root = f"{folder}/"
        self._path = folder / STORE
        self._home = self._path.parent
        self._home.mkdir(parents=True, exist_ok=True)
        self._recording = recording
        self._migrations = life.steps_of(migrated=recording.migrated)
        self._verified: set[int] = set()
        self._count = 0

    async def judge(self, files: Mapping[str, bytes], *, acked: int, begun: int) -> int:
        """Return how many steps of the life are in a state that must have `acked` of them.

        Raises:
            Violation: there are fewer, or it cannot be opened, or it is not whole.
        """
        self._count += 1
        self._put(files)
        store = self._store(SMALL)
        await _opened(store)
        try:
            step = await self._read(store, acked, begun)
            await self._go_on(store)
        except StoreFailed as error:
            raise Violation(Fault.CORRUPT, str(error)) from error
        finally:
            await store.close()
        if not self._count % AGAIN_EVERY:
            await self._open_again()
        return step

    def _store(self, options: SqliteOptions) -> SqliteStore:
        return SqliteStore(self._path, options=options, migrations=self._migrations)

    async def _read(self, store: SqliteStore, acked: int, begun: int) -> int:
        # A connection of our own would cost as much as all the rest.
        found = await store._read(read_content)  # noqa: SLF001 - see above
        step = self._step(found, acked, begun)
        if step not in self._verified or not self._count % VERIFY_EVERY:
            self._verified.add(step)
            for problem in await store.verify():
                raise Violation(Fault.BROKEN, problem.what)
        fd = os.open(self._path, os.O_RDONLY)
        header = os.read(fd, _RESERVED_AT + 1)
        os.close(fd)
        if header[_RESERVED_AT] != sqlite_open.CHECKSUM_BYTES:
            raise Violation(Fault.BROKEN, "its pages have no checksums")
        return step

    def _step(self, found: Content, acked: int, begun: int) -> int:
        contents = self._recording.contents
        for step in range(begun, acked - 1, -1):
            if found == contents[step]:
                return step
        for step in range(acked - 1, -1, -1):
            if found == contents[step]:
                raise Violation(Fault.LOST, f"{acked} steps were acknowledged, {step} are there")
        lost = _records_lost(found, contents[acked])
        if lost:
            raise Violation(Fault.LOST, lost)
        raise Violation(
            Fault.BROKEN, f"it is none of the contents after steps {acked} to {begun}: a part is"
        )

    async def _go_on(self, store: SqliteStore) -> None:
        verdict = await store.commit(batch(AFTER, *new_task(AFTER), appends=[AFTER]))
        if not isinstance(verdict, Committed):
            raise Violation(Fault.BROKEN, f"it takes no new batch: {verdict}")

    async def _open_again(self) -> None:
        store = self._store(_ROOM)
        await _opened(store)
        try:
            known = await store.outcome(batch(AFTER).id)
            if not known or await store.get([(Table.TASK, AFTER)]) != [task(AFTER)]:
                raise Violation(Fault.LOST, "a batch that was written after the power loss is gone")
        finally:
            await store.close()

    def _put(self, files: Mapping[str, bytes]) -> None:
        home = os.fspath(self._home)
        wanted = {self._root + name: data for name, data in files.items()}
        for name in os.listdir(home):  # noqa: PTH208 - called for every state
            path = f"{home}/{name}"
            if path not in wanted:
                os.unlink(path)  # noqa: PTH108 - as above
        for path, data in wanted.items():
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.write(fd, data)
            os.close(fd)


async def _opened(store: SqliteStore) -> None:
    try:
        await store.open()
    except StoreRefused as error:
        raise Violation(Fault.CORRUPT, str(error)) from error


def _records_lost(found: Content, promised: Content) -> str | None:
    missing = len(promised.records) - len(found.records)
    if missing > 0:
        return f"{missing} acknowledged records are gone"
    return None
