"""Opens what a power loss left, with the real store, and judges it."""

import os
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

import apsw

from agentcom.model.batch import Table
from agentcom.model.errors import StoreRefused
from agentcom.store import sqlite_open
from agentcom.store.base import Committed
from agentcom.store.failures import StoreFailed
from agentcom.store.sqlite import SMALL, SqliteOptions, SqliteStore
from agentcom.testing.crash import life
from agentcom.testing.crash.recording import STORE, Content, Recording, read_content
from agentcom.testing.crash.recovery import recovered
from agentcom.testing.store_rows import batch, new_task, task

AFTER: Final = "after"
WHOLE_EVERY: Final = 32
"""States between two that the whole store opens although one like them was judged before."""
AGAIN_EVERY: Final = 8
"""Of those: between two that are opened a second time, with room set aside as a hub does it."""
ALIKE_MAX: Final = 64
"""The newest kinds of states that are kept to compare with; their databases are in memory."""
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
        self._alike: deque[tuple[object, int]] = deque(maxlen=ALIKE_MAX)
        self._count = 0
        self.whole = 0
        """States that the whole store opened."""

    async def judge(self, files: Mapping[str, bytes], *, acked: int, begun: int) -> int:
        """Return how many steps of the life are in a state that must have `acked` of them.

        SQLite recovers each. The store opens it whole if recovery made of it, and in its own way,
        what it made of none before; and now and then although it did.

        Raises:
            Violation: there are fewer, or it cannot be opened, or it is not whole.
        """
        self._count += 1
        self._put(files)
        found = self._recovered(files)
        known = next((step for one, step in self._alike if one == found), None)
        if known is not None and self._count % WHOLE_EVERY:
            return self._promised(known, acked, begun)
        self._put(files)
        step = await self._judge(acked, begun, verify=known is None)
        if found is not None and known is None:
            self._alike.appendleft((found, step))
        return step

    def _recovered(self, files: Mapping[str, bytes]) -> object:
        """Return what is equal for states that are alike; None: there is no such thing."""
        return recovered(self._path, files)

    async def _judge(self, acked: int, begun: int, *, verify: bool) -> int:
        """Judge what lies in the folder, with the whole store."""
        self.whole += 1
        store = self._store(SMALL)
        await _opened(store)
        try:
            step = await self._read(store, acked, begun, verify=verify)
            await self._go_on(store)
        except StoreFailed as error:
            raise Violation(Fault.CORRUPT, str(error)) from error
        finally:
            await store.close()
        if not self.whole % AGAIN_EVERY:
            await self._open_again()
        return step

    def _store(self, options: SqliteOptions) -> SqliteStore:
        return SqliteStore(self._path, options=options, migrations=self._migrations)

    async def _read(self, store: SqliteStore, acked: int, begun: int, *, verify: bool) -> int:
        # A connection of our own would cost as much as all the rest.
        found = await store._read(read_content)  # noqa: SLF001 - see above
        step = self._step(found, acked, begun)
        for problem in await store.verify() if verify else ():
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
                return self._promised(step, acked, begun)
        lost = _records_lost(found, contents[acked])
        if lost:
            raise Violation(Fault.LOST, lost)
        raise Violation(
            Fault.BROKEN, f"it is none of the contents after steps {acked} to {begun}: a part is"
        )

    def _promised(self, step: int, acked: int, begun: int) -> int:
        if step < acked:
            raise Violation(Fault.LOST, f"{acked} steps were acknowledged, {step} are there")
        if step > begun:
            raise Violation(Fault.BROKEN, f"{begun} steps were begun, {step} are there")
        return step

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
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(fd, data)
            os.ftruncate(fd, len(data))
            os.close(fd)


async def _opened(store: SqliteStore) -> None:
    try:
        await store.open()
    except (StoreRefused, apsw.Error) as error:
        raise Violation(Fault.CORRUPT, str(error)) from error


def _records_lost(found: Content, promised: Content) -> str | None:
    missing = len(promised.records) - len(found.records)
    if missing > 0:
        return f"{missing} acknowledged records are gone"
    return None
