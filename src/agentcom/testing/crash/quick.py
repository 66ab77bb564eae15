"""Stores of a moment, spared what only one that lives long needs: what they write is the same."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest import mock

import apsw

from agentcom.store import absent, sqlite, sqlite_disk, sqlite_lists, sqlite_open, sqlite_writer
from agentcom.store.sqlite_writer import Commit, Work, Writer
from agentcom.testing.crash import life

_FEW_KEYS_LOG2: Final = 8
_KEPT_READERS: Final = 2  # for rows by key, and for listings
_T = TypeVar("_T")


@contextlib.contextmanager
def quick_stores() -> Iterator[None]:
    """Spare each store its filter of keys, the search for its file system, and its last tidying."""
    place = (1 << _FEW_KEYS_LOG2) - 1
    with (
        mock.patch.multiple(absent, _PLACES_LOG2=_FEW_KEYS_LOG2, _PLACE=place),
        mock.patch.object(sqlite_disk, "network_file_system", _nothing),
        mock.patch.object(sqlite_writer, "QUICK_COMMITS", 0),
        mock.patch.object(sqlite, "ThreadPoolExecutor", _Here),
        mock.patch.object(Writer, "finish", _nothing),
        mock.patch.object(sqlite_lists, "ARREARS_MAX", life.ARREARS),
    ):
        yield


@contextlib.contextmanager
def judged_stores() -> Iterator[None]:
    """Spare each store its threads, too, and all readers' connections but one."""
    with (
        quick_stores(),
        mock.patch.object(Writer, "start", _nothing),
        mock.patch.object(Writer, "stop", _nothing),
        mock.patch.object(Writer, "put", _done_at_once),
        mock.patch.object(asyncio.BaseEventLoop, "run_in_executor", _run_at_once),
        mock.patch.object(asyncio, "to_thread", _called),
        mock.patch.object(sqlite_open, "connect", _one_reader(sqlite_open.connect)),
    ):
        yield


class _Here(Executor):
    """Runs in the caller's thread what the store would hand to its reader's."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the future carries it
            future.set_exception(error)
        return future


def _nothing(_: object) -> None:
    return


def _done_at_once(writer: Writer, job: Commit | Work) -> None:
    work = partial(writer._do, job) if isinstance(job, Work) else partial(writer._commit, [job])  # noqa: SLF001 - as its thread does
    writer._guard([job], work)  # noqa: SLF001 - as above


def _run_at_once(
    loop: asyncio.BaseEventLoop, _executor: Executor, fn: Callable[..., _T], *args: Any
) -> asyncio.Future[_T]:
    """Return what is done already: no thread hands it over, and no loop turns for it."""
    future: asyncio.Future[_T] = loop.create_future()
    try:
        future.set_result(fn(*args))
    except Exception as error:  # noqa: BLE001 - the future carries it
        future.set_exception(error)
    return future


async def _called(fn: Callable[..., _T], *args: Any) -> _T:
    return fn(*args)


def _one_reader(connect: Callable[..., apsw.Connection]) -> Callable[..., apsw.Connection]:
    """Let both readers that a store keeps be one: each would read the whole schema."""
    kept: dict[Path, list[apsw.Connection]] = {}

    def connected(path: Path, *, read_only: bool = False) -> apsw.Connection:
        if not read_only:
            kept.pop(path, None)
            return connect(path)
        readers = kept.setdefault(path, [])
        if len(readers) == _KEPT_READERS:
            return connect(path, read_only=True)  # somebody closes this one soon
        readers.append(readers[0] if readers else connect(path, read_only=True))
        return readers[0]

    return connected
