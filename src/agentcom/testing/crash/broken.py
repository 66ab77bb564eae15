"""A disk that fails once: every operation of a short life in turn; what is promised then."""

import asyncio
import errno
import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple
from unittest import mock

import apsw

from agentcom.model.errors import StoreRefused
from agentcom.model.ids import DEFAULT_POOL
from agentcom.store import sqlite_lists
from agentcom.store.base import Store
from agentcom.store.failures import StoreFailed
from agentcom.testing.crash import life, power
from agentcom.testing.crash.judging import Judge, Violation
from agentcom.testing.crash.life import Life, Plan
from agentcom.testing.crash.operations import DiskFault, Kind, Operation
from agentcom.testing.crash.quick import judged_stores
from agentcom.testing.crash.recording import STORE, Failed, Ledger, Recorder, Recording
from agentcom.testing.crash.states import choices
from agentcom.testing.crash.vfs import watching
from agentcom.testing.store_rows import batch

STEPS: Final = 10
STATES: Final = 3
"""Random outcomes of a power loss after each failure, beside all and none."""
_PATIENCE_S: Final = 20.0
_FATAL: Final = (StoreFailed, StoreRefused, OSError, apsw.Error)


class Breakage(NamedTuple):
    """What became of a life on a disk that failed once."""

    failed: bool
    """Whether it lived long enough."""
    problems: list[str]


class FailingRecorder(Recorder):
    """Refuses the `at`th operation of one kind, from 1 on, once."""

    def __init__(self, kind: Kind, at: int) -> None:
        super().__init__()
        self.failed = False
        self._kind = kind
        self._left = at

    def before(self, operation: Operation) -> None:
        super().before(operation)
        if operation.kind is not self._kind or self.failed:
            return
        self._left -= 1
        if not self._left:
            self.failed = True
            self.entries.append(Failed(operation))
            raise DiskFault(errno.EIO)


def break_once(folder: Path, kind: Kind, at: int) -> Breakage:
    """Live in `folder` until the `at`th operation of a kind fails; then look at what is left."""
    root = folder / "life"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    recorder = FailingRecorder(kind, at)
    plan = Plan("broken", 1, STEPS)
    ledger = Ledger()
    with watching(root, recorder), mock.patch.object(sqlite_lists, "ARREARS_MAX", life.ARREARS):
        problems = asyncio.run(_live(root, recorder, ledger, plan))
    recording = Recording(plan.name, {}, recorder.entries, ledger.contents)
    if recorder.failed:
        problems += asyncio.run(_look(folder / "look", recording))
    return Breakage(recorder.failed, [f"{kind} {at}: {problem}" for problem in problems])


async def _live(root: Path, recorder: FailingRecorder, ledger: Ledger, plan: Plan) -> list[str]:
    one = Life(root / STORE, recorder, ledger, plan)
    try:
        failure = await _failure(one)
    except AssertionError as error:
        return [f"it goes on: {error}"]
    problems = [] if failure is None or not one.is_open else await _goes_on(one.store, recorder)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await one.close()
    except TimeoutError:
        problems.append("it cannot be closed")
    except _FATAL:
        pass  # what it had to write at its end may fail as well
    return problems


async def _failure(one: Life) -> BaseException | None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await one.run()
    except TimeoutError as error:
        raise AssertionError("a call has no answer") from error
    except _FATAL as error:
        return error
    return None


async def _goes_on(store: Store, recorder: FailingRecorder) -> list[str]:
    """Return which calls still do something after a failure that is no reader's."""
    failed = next(entry for entry in recorder.entries if isinstance(entry, Failed))
    if failed.operation.kind is Kind.READ:
        return []
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "commit": lambda: store.commit(batch("late", appends=["t"])),
        "acquire": lambda: store.acquire(DEFAULT_POOL, "late"),
        "outcome": lambda: store.outcome(batch("late").id),
        "checkpoint": store.checkpoint,
    }
    return [f"{name} goes on" for name, call in calls.items() if await _works(call)]


async def _works(call: Callable[[], Awaitable[object]]) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await call()
    except StoreFailed:
        return False
    except TimeoutError:
        pass  # no answer is no failure either
    return True


async def _look(folder: Path, recording: Recording) -> list[str]:
    """Judge what may be on the disk after the end: what a failed sync covers is there or not."""
    judge = Judge(folder, recording)
    disk, acked, begun = power.after(recording)
    outcomes = list(choices(disk, random.Random(recording.name), mixtures=0))[:2]  # noqa: S311 - repeatable
    rng = random.Random(len(recording.entries))  # noqa: S311 - repeatable
    outcomes += list(choices(disk, rng, mixtures=STATES))[-STATES:]
    states = [(disk.build(choice), choice) for choice in outcomes]
    problems = []
    with judged_stores():
        for state, choice in {state.digest: (state, choice) for state, choice in states}.values():
            try:
                await judge.judge(state.files, acked=acked, begun=begun)
            except Violation as violation:
                problems.append(f"{violation} ({choice})")
    return problems
