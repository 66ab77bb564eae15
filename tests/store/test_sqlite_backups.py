"""Copies of a hub's data: made under load, tried out, and put back to any batch."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentcom.hub import backup_schedule
from agentcom.hub.config import BackupSettings, HubConfig
from agentcom.model import address
from agentcom.model.backup import (
    COPY_ONLY,
    NEWEST,
    Backup,
    BackupDamaged,
    Drilled,
    Point,
    PointNotReached,
    Restored,
)
from agentcom.model.batch import Insert, Table, Update
from agentcom.model.errors import NotFound, StoreRefused
from agentcom.model.ids import DEFAULT_POOL, UserId, WallTime
from agentcom.model.shared_note import Blob
from agentcom.model.task import TaskState
from agentcom.store import sqlite_open, sqlite_restore
from agentcom.store.base import Committed
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.store.sqlite_backups import STORE_FILE, Backups
from agentcom.store.sqlite_journal import Journal
from agentcom.testing.store_rows import batch, body, new_task, task
from tests.hub.doubles import ManualClock

HOUR_MS = 3_600_000


class House:
    """A hub's folder, and copies of it."""

    def __init__(self, root: Path) -> None:
        self.home = root / "hub"
        self.backups = Backups(root / "backups")
        self.clock = ManualClock()
        self.count = 0

    @asynccontextmanager
    async def store(self, *, journal: bool = True) -> AsyncIterator[SqliteStore]:
        kept = Journal(self.backups.folder / "journal") if journal else None
        made = SqliteStore(self.home / STORE_FILE, options=SMALL, journal=kept)
        await made.open()
        try:
            yield made
        finally:
            await made.close()

    async def add(self, store: SqliteStore, count: int = 1) -> None:
        for _ in range(count):
            self.count += 1
            name = f"t{self.count:03d}"
            one = batch(f"b-{name}", *new_task(name), appends=[name])
            assert isinstance(await store.commit(one), Committed)

    async def take(self) -> Backup:
        self.clock.advance(60_000)
        return await asyncio.to_thread(self.backups.take, self.home, self.clock.now)

    async def restore(self, name: str | None = None, point: Point = NEWEST) -> Restored:
        return await sqlite_restore.restore(self.backups, self.home, name=name, point=point)

    async def drill(self, name: str | None = None) -> Backup:
        return await sqlite_restore.drill(self.backups, name=name, clock=self.clock.now)

    async def tasks(self) -> list[str]:
        async with self.store(journal=False) as store:
            assert await store.verify() == []
            return sorted(row.id for row in (await store.scan(DEFAULT_POOL)).tasks)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def names(count: int) -> list[str]:
    return [f"t{n:03d}" for n in range(1, count + 1)]


async def test_a_copy_is_made_while_the_store_is_written(house: House) -> None:
    async with house.store() as store:
        await house.add(store, 3)
        writing = asyncio.create_task(house.add(store, 40))
        made = await house.take()
        await writing

    assert 3 <= made.number <= 43
    assert house.backups.listed() == [made]
    house.backups.check(made)


async def test_a_copy_larger_than_any_cache_is_whole(house: House) -> None:
    size = 0
    async with house.store() as store:
        for number in range(3 * sqlite_open.CACHE_KIB // 100):
            name = f"large{number:04}"
            new = [*new_task(name)]
            long = Insert(Table.BODY, name, body(name, "x" * 100_000))
            await store.commit(batch(f"b-{name}", new[0], long))
        made = await house.take()
        size = house.backups.path(made).stat().st_size

    assert size > 2 * sqlite_open.CACHE_KIB * 1024
    assert (await house.drill()).drilled is not None
    assert sorted(path.name for path in house.backups.path(made).parent.iterdir()) == [
        *("hub.sqlite", "manifest.json"),
    ]


async def test_every_batch_can_be_gone_back_to(house: House) -> None:
    async with house.store() as store:
        await house.add(store, 2)
        await house.take()
        await house.add(store, 6)

    for number in range(2, 9):
        made = await house.restore(point=Point(number=number))
        assert (made.number, made.replayed) == (number, number - 2)
        assert await house.tasks() == names(number)


async def test_without_a_point_it_goes_as_far_as_the_journal_leads(house: House) -> None:
    async with house.store() as store:
        await house.add(store, 2)
        made = await house.take()
        await house.add(store, 3)
        before = await store.raise_incarnation()
    (house.home / STORE_FILE).write_bytes(b"damaged beyond repair" * 1_000)

    restored = await house.restore()

    assert (restored.number, restored.replayed, restored.base) == (5, 3, made.name)
    assert restored.incarnation >= before
    assert restored.lost_count is None
    assert restored.replaced is not None
    assert (Path(restored.replaced) / STORE_FILE).read_bytes().startswith(b"damaged")
    assert await house.tasks() == names(5)


async def test_a_time_is_a_point_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [1_000.0]
    monkeypatch.setattr("agentcom.store.sqlite_journal.time.time", lambda: now_s[0])
    async with house.store() as store:
        await house.add(store)
        made = await house.take()
    late = made.at + 10_000
    for _ in range(3):
        now_s[0] = late / 1_000
        async with house.store() as store:
            await house.add(store)
        late += 10_000

    restored = await house.restore(point=Point(at=WallTime(made.at + 25_000)))

    assert restored.number == 3
    assert await house.tasks() == names(3)
    with pytest.raises(PointNotReached, match="every copy is newer"):
        await house.restore(point=Point(at=WallTime(made.at - 1)))


async def test_a_named_copy_is_put_back_as_it_is_and_what_is_lost_is_told(house: House) -> None:
    async with house.store() as store:
        await house.add(store, 2)
        made = await house.take()
        await house.add(store, 3)

    restored = await house.restore(made.name, COPY_ONLY)

    assert restored.lost == tuple(names(5)[2:])
    assert (restored.lost_count, restored.replayed) == (3, 0)
    assert await house.tasks() == names(2)


async def test_after_a_restore_a_new_life_does_not_mix_with_the_old_one(house: House) -> None:
    async with house.store() as store:
        await house.add(store, 2)
        await house.take()
        await house.add(store, 4)
    await house.restore(point=Point(number=3))
    async with house.store() as store:
        house.count = 100
        await house.add(store, 2)
        second = await house.take()
        await house.add(store, 1)

    await house.restore()

    assert await house.tasks() == [*names(3), "t101", "t102", "t103"]
    assert house.backups.is_followed(second)
    assert not house.backups.is_followed(house.backups.listed()[-1])


async def test_a_point_behind_the_journal_touches_nothing(
    house: House,
) -> None:
    async with house.store() as store:
        await house.add(store, 2)
        await house.take()
        await house.add(store)
    before = (house.home / STORE_FILE).read_bytes()

    with pytest.raises(PointNotReached, match="lead to batch 3, no further"):
        await house.restore(point=Point(number=4))

    assert (house.home / STORE_FILE).read_bytes() == before
    assert [path.name for path in house.home.iterdir() if path.name.startswith(".rest")] == []


async def test_a_hub_that_runs_is_not_restored(house: House) -> None:
    async with house.store() as store:
        await house.add(store)
        await house.take()
        with pytest.raises(StoreRefused, match="in use"):
            await house.restore()


@pytest.mark.parametrize("at", [100, 5_000, 40_000, -10])
async def test_a_copy_that_was_changed_is_refused(house: House, at: int) -> None:
    async with house.store() as store:
        await house.add(store, 20)
        made = await house.take()
    path = house.backups.path(made)
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)

    with pytest.raises(BackupDamaged, match="not as it was made"):
        await house.restore()
    with pytest.raises(BackupDamaged, match="not as it was made"):
        await house.drill()
    assert await house.tasks() == names(20)


@pytest.mark.parametrize("page", range(2, 12))
async def test_damaged_data_are_not_copied(house: House, page: int) -> None:
    async with house.store() as store:
        await house.add(store, 60)
    path = house.home / STORE_FILE
    data = bytearray(path.read_bytes())
    data[page * 4_096 + 2_000] ^= 0x40
    path.write_bytes(data)

    try:
        made = await house.take()
    except BackupDamaged:
        assert house.backups.listed() == []
    else:  # a page that nothing uses
        await house.drill(made.name)


async def test_a_drill_compares_what_the_copy_before_leads_to(house: House) -> None:
    async with house.store() as store:
        await house.add(store, 2)
        first = await house.take()
        assert (await house.drill()).drilled == Drilled(
            at=house.clock.now().wall, rows=6, base=first.name
        )
        await house.add(store, 3)
        done = Update(Table.TASK, "t001", task("t001", TaskState.COMPLETED, version=2), expected=1)
        await store.commit(batch("done", done, appends=["t001"]))
        second = await house.take()

    drilled = (await house.drill()).drilled

    assert drilled is not None
    assert (drilled.base, drilled.rows) == (first.name, 16)
    assert house.backups.listed()[0].drilled == drilled
    assert house.backups.find(second.name[-10:]).drilled == drilled


async def test_a_copy_that_its_journal_does_not_lead_to_fails_the_drill(house: House) -> None:
    other = House(house.home.parent / "other")
    async with house.store() as store:
        await house.add(store, 2)
        await house.take()
    shutil.copytree(house.home, other.home)
    async with house.store() as store:
        await house.add(store, 2)
        second = await house.take()
    # A store that has something which was never committed.
    async with other.store(journal=False) as store:
        other.count = 50
        await other.add(store, 2)
    made = await other.take()
    shutil.copyfile(other.backups.path(made), house.backups.path(second))
    manifest = house.backups.path(second).with_name("manifest.json")
    manifest.write_bytes(
        manifest.read_bytes().replace(second.sha256.encode(), made.sha256.encode())
    )

    with pytest.raises(BackupDamaged, match=r"rows of .* differ"):
        await house.drill()


async def test_the_oldest_go_and_the_last_that_was_tried_stays(house: House) -> None:
    made = []
    async with house.store() as store:
        for _ in range(5):
            await house.add(store, 2)
            made.append(await house.take())
    await house.drill(made[0].name)

    gone = house.backups.prune(2)

    assert list(gone) == [made[2], made[1]]
    assert [one.name for one in house.backups.listed()] == [
        made[4].name,
        made[3].name,
        made[0].name,
    ]
    assert (await house.restore(point=Point(number=9))).number == 9


async def test_attached_files_come_back(house: House) -> None:
    row = Blob(
        digest=hashlib.sha256(b"content").hexdigest(),
        bytes=7,
        owner=address.of_user(UserId("ada")),
        created_at=WallTime(1),
    )
    blob = house.home / "blobs" / row.digest[:2] / row.digest
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"content")
    async with house.store() as store:
        await house.add(store)
        await store.commit(batch("blob", Insert(Table.BLOB, f"default/{row.digest}", row)))
    await house.take()
    shutil.rmtree(house.home / "blobs")

    await house.restore()

    assert blob.read_bytes() == b"content"


async def test_what_is_not_there_is_told(house: House) -> None:
    with pytest.raises(NotFound, match="there is no hub"):
        await house.take()
    with pytest.raises(NotFound, match="there is no copy"):
        await house.restore()
    with pytest.raises(NotFound, match="there is no copy nope"):
        house.backups.find("nope")


def schedule(house: House, **settings: float) -> backup_schedule.Schedule:
    config = HubConfig(home=house.home, backups=BackupSettings(**settings))  # type: ignore[arg-type]
    return backup_schedule.Schedule(config, house.clock, house.backups)


def copied(house: House, hours_ago: float, *, drilled_ago: float | None = None) -> Backup:
    now = house.clock.now().wall
    at = WallTime(int(now - hours_ago * HOUR_MS))
    drilled = None
    if drilled_ago is not None:
        drilled = Drilled(at=WallTime(int(now - drilled_ago * HOUR_MS)), rows=1, base="x")
    return Backup(
        name="x", at=at, number=1, incarnation=1, bytes=1, sha256="", took_ms=1, drilled=drilled
    )


def test_copies_and_drills_are_due_by_the_clock(house: House) -> None:
    daily = schedule(house)

    assert daily.due([]) == ["now", "drill"]
    assert daily.due([copied(house, 23, drilled_ago=1)]) == []
    assert daily.due([copied(house, 25, drilled_ago=1)]) == ["now"]
    assert daily.due([copied(house, 1, drilled_ago=169)]) == ["drill"]
    assert schedule(house, drill_every_hours=0).due([copied(house, 1)]) == []


async def test_two_copies_of_one_moment_are_two(house: House) -> None:
    async with house.store() as store:
        await house.add(store, 2)
        take = [
            asyncio.to_thread(house.backups.take, house.home, house.clock.now) for _ in range(3)
        ]
        made = await asyncio.gather(*take)

    first = min(made, key=lambda one: one.name)
    assert {one.name for one in made} == {first.name, f"{first.name}-2", f"{first.name}-3"}
    assert {one.name for one in house.backups.listed()} == {one.name for one in made}
    assert house.backups.find(first.name) == first
    for one in made:
        house.backups.check(one)
    left = [path.name for path in (house.backups.folder / "copies").iterdir()]
    assert [name for name in left if name.startswith(".")] == []
