"""A table of damage: what is done to a hub's files, and what must come of it.

Each case ends in one of three ways: the start is refused, reading fails, or nothing is lost. What
is found then is compared with all that was there before, so that no case passes silently.
"""

import asyncio
import os
import random
import shutil
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

from agentcom.model.batch import Delete, Insert, Table
from agentcom.model.errors import StoreRefused
from agentcom.model.ids import WallTime
from agentcom.model.message import Message, MessageId
from agentcom.store import sqlite_open
from agentcom.store.failures import StoreFailed
from agentcom.store.sqlite import SqliteOptions, SqliteStore
from agentcom.testing.crash.recording import Content, read_content
from agentcom.testing.store_rows import batch, body, committed, new_task

PAGE: Final = 4_096
OPTIONS: Final = SqliteOptions(wal_bytes=0, ballast_bytes=0, checkpoint_pages=1 << 20)
STORE: Final = "hub.sqlite"
_PLACES: Final = "SELECT name, pageno, pagetype FROM dbstat"
HEADER: Final = 100  # bytes at the beginning of the first page
_MAP: Final = 2
"""The page that says where the others belong."""


class Ending(StrEnum):
    """What came of damage."""

    REFUSED = "refused"
    """The hub does not start, and says what to do."""
    FOUND = "found"
    """The hub starts; what reads the damaged part fails, and `verify` names it."""
    HARMLESS = "harmless"
    """All that was acknowledged is there."""


class Damage(NamedTuple):
    """One way to damage the files of a hub that was killed."""

    name: str
    what: str
    """For people."""
    do: "Callable[[Site, random.Random], None]"
    endings: frozenset[Ending]
    """The ones that are right."""
    says: str = ""
    """A part of the refusal."""


class Site:
    """The files of one hub, and where what lies in them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = home / STORE
        self.wal = home / f"{STORE}-wal"
        self.shm = home / f"{STORE}-shm"

    def pages(self, tree: str, kind: str) -> list[int]:
        """Return the numbers of the pages of a kind in trees: `table`, `index` or `words`."""
        db = sqlite_open.connect(self.store, read_only=True)
        try:
            trees = {
                str(name): _tree_of(str(name), str(sql), str(made))
                for name, sql, made in db.execute("SELECT name, sql, type FROM sqlite_schema")
            }
            rows: list[Any] = db.execute(_PLACES).fetchall()
        finally:
            db.close()
        return [int(page) for name, page, has in rows if trees.get(name) == tree and has == kind]

    def free_pages(self) -> list[int]:
        """Return the numbers of the pages that hold nothing."""
        db = sqlite_open.connect(self.store, read_only=True)
        try:
            used = {int(page) for (page,) in db.execute("SELECT pageno FROM dbstat")}
            count = sqlite_open.pragma(db, "page_count")
        finally:
            db.close()
        return [page for page in range(_MAP + 1, count + 1) if page not in used]


def flip(path: Path, offset: int, count: int = 8) -> None:
    """Invert some bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        data = file.read(count)
        assert data, f"{path} has nothing at {offset}"
        file.seek(offset)
        file.write(bytes(byte ^ 0xFF for byte in data))


def _tree_of(name: str, sql: str, made: str) -> str:
    if name.startswith(("found", "sqlite_autoindex_found")):
        return "words"
    return "index" if made == "index" or sql.upper().endswith("WITHOUT ROWID") else "table"


Do = Callable[[Site, random.Random], None]


def _in_page(tree: str, kind: str) -> Do:
    def do(site: Site, rng: random.Random) -> None:
        page = rng.choice(site.pages(tree, kind))
        flip(site.store, (page - 1) * PAGE + rng.randrange(PAGE - 8))

    return do


def _zeroed(tree: str, kind: str) -> Do:
    def do(site: Site, rng: random.Random) -> None:
        page = rng.choice(site.pages(tree, kind))
        _write(site.store, (page - 1) * PAGE, bytes(PAGE))

    return do


def _swapped(site: Site, rng: random.Random) -> None:
    one, other = rng.sample(site.pages("table", "leaf"), 2)
    data = site.store.read_bytes()
    first, second = ((page - 1) * PAGE for page in (one, other))
    _write(site.store, first, data[second : second + PAGE])
    _write(site.store, second, data[first : first + PAGE])


def _in_header(site: Site, rng: random.Random) -> None:
    flip(site.store, rng.randrange(HEADER), 1)


def _in_schema(site: Site, rng: random.Random) -> None:
    flip(site.store, rng.randrange(HEADER, PAGE - 8))


def _in_map(site: Site, rng: random.Random) -> None:
    flip(site.store, (_MAP - 1) * PAGE + rng.randrange(PAGE - 8))


def _in_free_page(site: Site, rng: random.Random) -> None:
    flip(site.store, (rng.choice(site.free_pages()) - 1) * PAGE + rng.randrange(PAGE - 8))


def _cut(site: Site, rng: random.Random) -> None:
    os.truncate(site.store, rng.randrange(1, site.store.stat().st_size))


def _emptied(site: Site, _: random.Random) -> None:
    os.truncate(site.store, 0)


def _in_wal_header(site: Site, rng: random.Random) -> None:
    flip(site.wal, rng.randrange(_WAL_HEADER), 1)


def _in_wal_frame_header(site: Site, rng: random.Random) -> None:
    flip(site.wal, _frame(site, rng) + rng.randrange(_FRAME_HEADER), 1)


def _in_wal_frame(site: Site, rng: random.Random) -> None:
    flip(site.wal, _frame(site, rng) + _FRAME_HEADER + rng.randrange(PAGE - 8))


def _cut_wal(site: Site, rng: random.Random) -> None:
    os.truncate(site.wal, rng.randrange(site.wal.stat().st_size))


def _frame(site: Site, rng: random.Random) -> int:
    frames = (site.wal.stat().st_size - _WAL_HEADER) // (_FRAME_HEADER + PAGE)
    return _WAL_HEADER + rng.randrange(frames) * (_FRAME_HEADER + PAGE)


def _write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _without(*endings: str) -> Do:
    def do(site: Site, _: random.Random) -> None:
        for ending in endings:
            (site.home / f"{STORE}{ending}").unlink(missing_ok=True)

    return do


_WAL_HEADER: Final = 32
_FRAME_HEADER: Final = 24
RESTORE: Final = "agentcom backup restore"
_REFUSED: Final = frozenset({Ending.REFUSED})
_HARMLESS: Final = frozenset({Ending.HARMLESS})
_NOTICED: Final = _REFUSED | _HARMLESS
_COPY: Final = "sound copy"
_ROLLED_BACK: Final = "rolled back"

PAGES: Final = (
    Damage("header", "any byte of the file's header", _in_header, _NOTICED, _COPY),
    Damage("schema", "the rest of the first page", _in_schema, _REFUSED, _COPY),
    *(
        Damage(f"{tree}-{kind}", f"a page of {said}", _in_page(tree, kind), _REFUSED, _COPY)
        for tree, kind, said in (
            ("table", "internal", "a table, inside its tree"),
            ("table", "leaf", "a table, with rows"),
            ("table", "overflow", "a long row"),
            ("index", "internal", "an index, inside its tree"),
            ("index", "leaf", "an index, with entries"),
            ("words", "leaf", "the index of words"),
        )
    ),
    Damage("zeroed-leaf", "a page of rows is zeros", _zeroed("table", "leaf"), _REFUSED, _COPY),
    Damage("zeroed-index", "so is one of an index", _zeroed("index", "leaf"), _REFUSED, _COPY),
    Damage("swapped", "two pages of rows have changed places", _swapped, _NOTICED, _COPY),
    Damage("map", "the page that says where others belong", _in_map, _NOTICED, _COPY),
    Damage("free-page", "a page that holds nothing", _in_free_page, _NOTICED, _COPY),
    Damage("cut", "the file is cut anywhere", _cut, _REFUSED, ""),
    Damage("emptied", "the file is empty", _emptied, _REFUSED, ""),
    Damage("deleted", "the file is gone", _without(""), _REFUSED, _ROLLED_BACK),
)
"""Of a hub that was stopped: all is in the database."""
LOGS: Final = (
    Damage("killed", "the hub is killed", lambda _site, _rng: None, _HARMLESS),
    Damage("wal-header", "the header of the log", _in_wal_header, _REFUSED, _ROLLED_BACK),
    Damage("wal-frame", "a page in the log", _in_wal_frame, _REFUSED, _ROLLED_BACK),
    Damage("wal-frame-header", "what stands before it", _in_wal_frame_header, _REFUSED),
    Damage("wal-cut", "the log is cut anywhere", _cut_wal, _REFUSED, _ROLLED_BACK),
    Damage("wal-deleted", "the log is gone", _without("-wal"), _REFUSED, _ROLLED_BACK),
    Damage("shm-deleted", "the log's own index is gone", _without("-shm"), _HARMLESS),
    Damage("both-deleted", "both are gone", _without("-wal", "-shm"), _REFUSED, _ROLLED_BACK),
    Damage("mark-deleted", "the last-commit file is gone", _without("-last-commit"), _HARMLESS),
)
"""Of a hub that was killed: the newest batches are in its log."""
ALL: Final = {one.name: one for one in (*PAGES, *LOGS)}


class Spot(NamedTuple):
    """One damage at one random place."""

    name: str
    seed: int
    large: bool

    def __str__(self) -> str:
        return f"{self.name}:{self.seed}:{'large' if self.large else 'small'}"


def spots(seeds: int) -> Sequence[Spot]:
    """Return so many places of each damage, in a small database and in a large one."""
    return [
        Spot(name, seed, large) for large in (False, True) for name in ALL for seed in range(seeds)
    ]


class Bench:
    """A hub's files, sound, as often as they are wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stopped = folder / "stopped"
        self._killed = folder / "killed"
        self.expected: dict[bool, Content] = {}

    async def prepare(self) -> None:
        """Let a hub live, once to its end and once until it is killed."""
        store = _opened(self._stopped)
        await store.open()
        for number in range(60):
            name = f"t{number:03d}"
            long = "long " * (900 if number % 7 == 0 else 40)
            task, _ = new_task(name)
            rows = [task, Insert(Table.BODY, name, body(name, f"{name} {long}"))]
            await committed(store, batch(f"b{number}", *rows, appends=[name]))
        letters = [_letter(number) for number in range(200)]
        changes = [Insert(Table.MESSAGE, letter.id, letter) for letter in letters]
        await committed(store, batch("letters", *changes))
        gone = [Delete(Table.MESSAGE, letter.id, 1) for letter in letters[:150]]
        await committed(store, batch("gone", *gone))
        while not await store.index(1_000):
            pass
        self.expected[False] = await store._read(read_content)  # noqa: SLF001 - all that it has
        await store.close()
        await asyncio.to_thread(shutil.copytree, self._stopped, self._killed)
        store = _opened(self._killed)
        await store.open()
        for number in range(12):
            name = f"late{number}"
            await committed(store, batch(f"l{number}", *new_task(name), appends=[name]))
        self.expected[True] = await store._read(read_content)  # noqa: SLF001 - as above
        copy = self._folder / "copy"
        await asyncio.to_thread(shutil.copytree, self._killed, copy)
        await store.close()
        await asyncio.to_thread(shutil.rmtree, self._killed)
        await asyncio.to_thread(copy.rename, self._killed)

    async def problem(self, damage: Damage, seed: int, *, large: bool = False) -> str | None:
        """Damage the files once; return what is wrong with how it ends, or None.

        `large`: the database is too large to be read at the start, so reading may find it.
        """
        try:
            ending, said = await self.ending(damage, seed, large=large)
        except AssertionError as error:
            return str(error)
        if ending not in damage.endings and not (large and ending is Ending.FOUND):
            return f"{damage.name}/{seed}: {ending}, and says {said!r}"
        wanted = {Ending.REFUSED: "" if large else damage.says, Ending.FOUND: RESTORE}
        if wanted.get(ending, "") not in said:
            return f"{damage.name}/{seed}: {ending} without a word of what to do: {said!r}"
        return None

    async def ending(self, damage: Damage, seed: int, *, large: bool = False) -> tuple[Ending, str]:
        """Damage the files once, and return how it ends; `large`: too large to be read at start.

        Raises:
            AssertionError: something is wrong, and nobody says so.
        """
        killed = damage in LOGS
        home = self._folder / "damaged"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self._killed if killed else self._stopped, home)
        damage.do(Site(home), random.Random(f"{damage.name}/{seed}"))  # noqa: S311 - a seed repeats it
        store = _opened(home)
        pages = 0 if large else sqlite_open.CHECK_PAGES_MAX
        with mock.patch.object(sqlite_open, "CHECK_PAGES_MAX", pages):
            try:
                await store.open()
            except StoreRefused as error:
                return Ending.REFUSED, error.message
        try:
            problems = await store.verify()
            try:
                found = await store._read(read_content)  # noqa: SLF001 - all that it has
            except StoreFailed:
                return Ending.FOUND, problems[0].fix  # nothing fails that `verify` does not name
            if problems:
                return Ending.FOUND, problems[0].fix
            assert found == self.expected[killed], f"{damage.name}/{seed}: silently wrong"
            return Ending.HARMLESS, ""
        finally:
            await store.close()


def _opened(home: Path) -> SqliteStore:
    return SqliteStore(home / STORE, options=OPTIONS)


def _letter(number: int) -> Message:
    name = MessageId(f"m{number:04d}")
    return Message(
        id=name,
        sender="user:ada",  # type: ignore[arg-type]  # an address is text
        at=WallTime(1),
        body=f"letter {number} " + "words " * 30,
        thread=name,
    )
