"""Judges what a power loss left of a store and its archive while tasks move between them."""

from collections.abc import Mapping
from pathlib import Path

import apsw

from agentcom.model.archive import ArchiveDamaged
from agentcom.model.errors import StorageFull, StoreRefused
from agentcom.store import sqlite_archive
from agentcom.store.failures import StoreFailed
from agentcom.store.sqlite import SMALL
from agentcom.testing.crash.judging import Fault, Judge, Violation
from agentcom.testing.crash.moving import ARCHIVE, Pair, in_small
from agentcom.testing.crash.recording import Recording
from agentcom.testing.crash.recovery import recovered


class MovedJudge(Judge):
    """Judges the states of a life in which tasks move; its steps are the tasks that ended."""

    def __init__(self, folder: Path, recording: Recording) -> None:
        super().__init__(folder, recording)
        self._folder = folder

    def _recovered(self, files: Mapping[str, bytes]) -> object:
        archive = {name: data for name, data in files.items() if name.startswith(ARCHIVE)}
        store = {name: data for name, data in files.items() if name not in archive}
        one = super()._recovered(store)
        if not archive or one is None:
            return one
        other = recovered(self._folder / ARCHIVE, archive, ARCHIVE)
        return None if other is None else (one, other)

    async def _judge(self, acked: int, begun: int, *, verify: bool) -> int:
        self.whole += 1
        try:
            with in_small():
                step = await self._read_both(acked, begun)
            if verify and (self._folder / ARCHIVE).exists():
                sqlite_archive.check(self._folder / ARCHIVE)
        except (StoreRefused, StoreFailed, StorageFull, ArchiveDamaged, apsw.Error) as error:
            raise Violation(Fault.CORRUPT, str(error)) from error
        return step

    async def _read_both(self, acked: int, begun: int) -> int:
        async with Pair(self._folder, SMALL) as pair:
            there = await pair.tasks()
            lost = set(range(acked)) - set(there)
            if lost:
                raise Violation(Fault.LOST, f"tasks {sorted(lost)} are in neither file")
            step = self._promised(len(there), acked, begun)
            problems = await pair.wrong(step)
            await pair.move()
            problems += await pair.wrong(step)
            if await pair.count() != (0, step):
                problems.append(f"then {await pair.count()} are in store and archive")
        for problem in problems:
            raise Violation(Fault.BROKEN, problem)
        return step
