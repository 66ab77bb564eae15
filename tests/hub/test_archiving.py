"""What is over goes to the archive: whole, when nothing needs it, and never to nowhere."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agentcom.hub import archiving
from agentcom.hub.activities import Activities
from agentcom.hub.costs import ARCHIVED, CostAsked, CostBy, Costs
from agentcom.hub.cursors import Cursors
from agentcom.hub.queries import Queries, TaskFilter
from agentcom.model.archive import Archived, ArchiveDamaged, Dossier
from agentcom.model.ask import Ask, AskId
from agentcom.model.batch import (
    Append,
    Batch,
    Change,
    Insert,
    Table,
    Update,
    children_key,
    edge_key,
    family_key,
    group_key,
    member_key,
)
from agentcom.model.errors import NotFound, StorageFull
from agentcom.model.event import task_log
from agentcom.model.graph import Edge, Member, Tally
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import ProjectId, TaskId, UserId, WallTime
from agentcom.model.message import Delivery, Entry, Head, Message, MessageId, entry_key
from agentcom.model.task import Task, TaskState
from agentcom.model.todo import Todo, TodoKind
from agentcom.model.usage import DAY_MS
from agentcom.protocol.shown import CostShown
from agentcom.store import sqlite_archive
from agentcom.store.archive import Archive
from agentcom.store.base import Query, Store, Verdict
from agentcom.store.failures import StoreFailed
from agentcom.store.memory import MemoryStore
from agentcom.store.memory_archive import MemoryArchive
from agentcom.store.search import Words
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.store.sqlite_archive import SqliteArchive
from agentcom.testing.store_rows import batch, body, committed, event, schedule, task
from tests.hub.archive_house import VIEWER, ArchiveHouse

ADA = Identity(role=Role.SUBMITTER, user=UserId("ada"), credential="c1")


@pytest.fixture(params=["memory", "sqlite"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ArchiveHouse]:
    store: Store = MemoryStore()
    archive: Archive = MemoryArchive()
    if request.param == "sqlite":
        store = SqliteStore(tmp_path / "hub.sqlite", options=SMALL)
        archive = SqliteArchive(tmp_path / sqlite_archive.ARCHIVE_FILE)
    await store.open()
    yield ArchiveHouse(store, archive)
    await store.close()
    await archive.close()


async def test_a_task_of_long_ago_goes_with_all_that_belongs_to_it(house: ArchiveHouse) -> None:
    old = await house.add(turns=2)
    young = await house.add(days_ago=80)

    moved = await house.work()

    kept = await house.dossier(old.id)
    assert moved == 1
    assert kept.task == old
    assert kept.body == body(old.id, f"please do {old.id}")
    assert [one.result.summary for one in kept.results] == [f"did {old.id}"]
    assert [turn.cost_micros for turn in kept.usage] == [8, 7]
    assert [told.record.kind for told in kept.events] == ["submitted", "assigned", "completed"]
    assert await house.rows_of(old.id) == []
    assert len(await house.rows_of(young.id)) == 3
    assert await house.store.read(task_log(old.id), 0, 9) == []
    assert await house.store.verify() == []


async def test_many_go_in_steps_and_a_second_pass_finds_nothing(house: ArchiveHouse) -> None:
    tasks = [await house.add(days_ago=200 - n) for n in range(70)]

    assert await house.work() == 70
    assert await house.work() == 0
    assert (await house.archive.size()).tasks == len(tasks)
    records = await house.store.read(None, 0, 500)
    assert {record.record.task for record in records} == {tasks[-1].id}  # the newest batch's stay


async def test_the_archive_forgets_in_steps_what_ended_too_long_ago(
    house: ArchiveHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "STEP_TASKS", 2)
    old = [await house.add(days_ago=400 + n) for n in range(5)]
    young = await house.add(days_ago=300)
    # Made long ago, and over since yesterday a year ago.
    late = await house.add(days_ago=500)
    ended = replace(late, changed_at=WallTime(house.clock.wall - 364 * DAY_MS), version=2)
    await house.put(Update(Table.TASK, late.id, ended, 1))
    await house.work()

    archiver = house.archiver(await house.fixed_view())
    assert (await archiver.drop(), await archiver.drop()) == (len(old), 0)

    kept = await house.archive.tasks(Query(table=Table.TASK, limit=9))
    assert {row.id for row in kept.rows} == {young.id, late.id}  # type: ignore[union-attr]  # tasks
    words = Words(text="please", project=young.project, limit=9)
    assert len((await house.archive.search(words)).keys) == 2
    house.clock.wall += 366 * DAY_MS
    assert await archiver.drop() == 2
    assert (await house.archive.size()).tasks == 0


@pytest.mark.parametrize(
    ("hours", "rest"), [(0, 4), (0.9, 4), (1, 2), (2.5, 1), (3, 0.5), (90, 0.5)]
)
def test_a_pass_that_takes_long_rests_less(hours: float, rest: float) -> None:
    assert archiving.rest_of(hours * 3_600) == rest


async def test_records_of_large_batches_go_too_and_those_of_tasks_that_stay_do_not(
    house: ArchiveHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "STEP_RECORDS", 4)
    tasks = [await house.add(days_ago=100 - n) for n in range(3)]
    at = WallTime(house.clock.wall - 95 * DAY_MS)
    stays = await house.add(days_ago=99, state=TaskState.QUEUED)
    for number, names in enumerate(([*tasks] * 4, [tasks[0], stays], [tasks[1]] * 9)):
        records = [Append(task_log(one.id), replace(event(one.id), at=at)) for one in names]
        await committed(house.store, replace(batch(f"r{number}"), appends=tuple(records)))
    await house.add(days_ago=1)
    archiver = house.archiver(await house.fixed_view())

    assert await archiver.work() == 3
    left = await house.store.read(None, 0, 99)
    assert await archiver.work() == 0
    before = house.ids.count
    assert await archiver.work() == 0

    assert [record.record.task for record in left[:5]] == [stays.id] * 3 + [tasks[0].id, stays.id]
    assert len(left) == 8
    assert house.ids.count == before  # what others keep is not tried again
    assert await house.store.verify() == []


async def test_what_was_spent_is_the_same_afterwards(house: ArchiveHouse) -> None:
    for days_ago in (100.5, 100.2, 99, 10):
        await house.add(days_ago=days_ago, turns=3)
    before = await house.costs()

    await house.work()
    await house.add(days_ago=99.1, turns=1)
    between = await house.costs()
    await house.work()

    assert before["day"].total == CostShown(None, 12, 96, 36)
    assert between["day"].total == CostShown(None, 13, 103, 39)
    assert await house.costs() == between
    by_task = await Costs(house.store).costs(VIEWER, CostAsked(by=CostBy.TASK))
    assert [(one.name, one.turns) for one in by_task.groups if one.name == ARCHIVED] == [
        (ARCHIVED, 10)
    ]


Needs = Callable[[Task, ArchiveHouse], Sequence[Change]]


def a_live_task(name: str, **fields: Any) -> list[Change]:
    row = replace(task(name), **fields)
    return [Insert(Table.TASK, name, row), Insert(Table.BODY, name, body(name))]


def a_dependant(old: Task, _: ArchiveHouse) -> Sequence[Change]:
    edge = Edge(task=TaskId("live"), on=old.id)
    row = replace(task("live", TaskState.WAITING))
    return [
        Insert(Table.TASK, "live", row),
        Insert(Table.BODY, "live", body("live")),
        Insert(Table.EDGE, edge_key("live", old.id), edge),
    ]


def a_schedule(old: Task, _: ArchiveHouse) -> Sequence[Change]:
    return [Insert(Table.SCHEDULE, "default/ada", replace(schedule("ada"), last_task=old.id))]


def a_letter(old: Task, house: ArchiveHouse) -> Sequence[Change]:
    log = "mail/default/user:ada"
    letter = Message(
        id=MessageId("m1"),
        sender="user:bob",  # type: ignore[arg-type]  # an address is text
        at=WallTime(house.clock.wall),
        body="look",
        thread=MessageId("m1"),
        task=old.id,
    )
    entries = [
        Entry(log=log, seq=1, message=MessageId("m0"), state=Delivery.ACKED),
        Entry(log=log, seq=2, message=letter.id),
    ]
    return [
        Insert(Table.HEAD, log, Head(log=log, seq=2, settled=0, open=1)),
        Insert(Table.MESSAGE, letter.id, letter),
        *(Insert(Table.ENTRY, entry_key(log, one.seq), one) for one in entries),
    ]


def a_todo(old: Task, _: ArchiveHouse) -> Sequence[Change]:
    return [Insert(Table.TODO, old.id, Todo(kind=TodoKind.RELEASE_DEPENDANTS, task=old.id))]


def a_sub_task(old: Task, _: ArchiveHouse) -> Sequence[Change]:
    key = children_key(old.id)
    member = Member(task=TaskId("live"))
    return [
        *a_live_task("live", parents=(old.id,)),
        Insert(Table.MEMBER, member_key(key, "live"), member),
        Insert(Table.TALLY, key, Tally(id=key, made=1)),
    ]


def an_ask(old: Task, house: ArchiveHouse) -> Sequence[Change]:
    ask = Ask(
        id=AskId("a1"),
        project=ProjectId("default"),
        asker="agent:bob",  # type: ignore[arg-type]  # an address is text
        question="?",
        at=WallTime(house.clock.wall),
        task=old.id,
        deadline_at=WallTime(house.clock.wall + 1),
        to="user:ada",  # type: ignore[arg-type]  # an address is text
    )
    return [Insert(Table.ASK, ask.id, ask)]


@pytest.mark.parametrize("need", [a_dependant, a_schedule, a_letter, a_todo, a_sub_task, an_ask])
async def test_a_task_stays_as_long_as_something_names_it(house: ArchiveHouse, need: Needs) -> None:
    old, other = await house.add(), await house.add()
    await house.put(*need(old, house))

    await house.work()

    assert await house.archive.get(old.id) is None
    assert len(await house.rows_of(old.id)) >= 3
    assert await house.archive.get(other.id) is not None


async def test_a_group_goes_when_all_of_it_is_over(house: ArchiveHouse) -> None:
    key = group_key("default", "night")
    old = await house.add(group="night")
    tally = Tally(id=key, made=2, live=1, states={"completed": 1, "queued": 1})
    await house.put(
        Insert(Table.TALLY, key, tally),
        Insert(Table.MEMBER, member_key(key, old.id), Member(task=old.id)),
    )

    first = await house.work()
    over = replace(tally, live=0, states={"completed": 2}, version=2)
    await house.put(Update(Table.TALLY, key, over, expected=1))
    second = await house.work()

    assert (first, second) == (0, 1)
    assert await house.rows_of(old.id) == []
    assert await house.store.get([(Table.TALLY, key)]) == [over]


async def test_sub_tasks_go_before_the_task_that_asked_for_them(house: ArchiveHouse) -> None:
    parent = await house.add(days_ago=120)
    child = await house.add(days_ago=119, parents=(parent.id,))
    below, family = children_key(parent.id), family_key(parent.id)
    await house.put(
        Insert(Table.TALLY, below, Tally(id=below, made=1)),
        Insert(Table.TALLY, family, Tally(id=family, made=1)),
        Insert(Table.MEMBER, member_key(below, child.id), Member(task=child.id)),
    )

    await house.work()
    assert await house.archive.get(child.id) is not None
    assert await house.archive.get(parent.id) is None
    await house.work()

    assert await house.rows_of(parent.id) == []


async def test_a_task_that_is_reopened_meanwhile_stays(house: ArchiveHouse) -> None:
    old = await house.add(state=TaskState.FAILED)
    other = await house.add(state=TaskState.FAILED)
    again = replace(old, state=TaskState.QUEUED, version=old.version + 1)
    put = house.archive.put

    async def put_late(dossiers: Sequence[Dossier]) -> None:
        await put(dossiers)
        if any(one.task == old for one in dossiers):
            await house.put(Update(Table.TASK, old.id, again, expected=old.version))

    house.archive.put = put_late  # type: ignore[method-assign]  # somebody retries just now
    moved = await house.work()

    assert moved == 1
    assert await house.store.get([(Table.TASK, old.id)]) == [again]
    assert await house.store.get([(Table.BODY, old.id)]) != [None]
    assert await house.rows_of(other.id) == []
    assert await house.store.verify() == []


async def test_without_room_nothing_leaves_the_store(house: ArchiveHouse) -> None:
    old = await house.add()

    async def full(_: Sequence[Dossier]) -> None:
        raise StorageFull

    house.archive.put = full  # type: ignore[assignment, method-assign]  # its disk has no room
    with pytest.raises(StorageFull):
        await house.work()

    assert len(await house.rows_of(old.id)) == 3


class Stopped(Exception):
    """The hub's process has ended."""


class Stopping:
    """Ends the process before or after its nth act on either file."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.left = at
        self.after = after

    async def __call__(self, act: Callable[[], Any]) -> Any:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Stopped
        done = await act()
        if self.left == 0:
            raise Stopped
        return done


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_wherever_the_hub_is_stopped_every_task_is_somewhere_and_counted(
    *, after: bool
) -> None:
    stopped = 0
    for at in range(1, 100):
        house = ArchiveHouse(MemoryStore(), MemoryArchive())
        tasks = [await house.add(days_ago=200 - n, turns=1) for n in range(40)]
        before = await house.costs()
        stop = Stopping(at, after=after)
        put, commit = house.archive.put, house.store.commit

        async def putting(dossiers: Sequence[Dossier], put: Any = put, stop: Any = stop) -> None:
            await stop(lambda: put(dossiers))

        async def committing(one: Batch, commit: Any = commit, stop: Any = stop) -> Verdict:
            return await stop(lambda: commit(one))  # type: ignore[no-any-return]  # a verdict

        house.archive.put = putting  # type: ignore[method-assign]  # stops on its way
        house.store.commit = committing  # type: ignore[assignment, method-assign]  # as above
        try:
            await house.work()
        except Stopped:
            stopped += 1
        house.archive.put, house.store.commit = put, commit  # type: ignore[method-assign]  # again

        for one in tasks:
            kept = await house.archive.get(one.id)
            assert await house.store.get([(Table.TASK, one.id)]) == [one] or (
                kept is not None and kept.task == one and len(kept.usage) == len(kept.results) == 1
            )
        assert await house.costs() == before
        await house.work()
        assert (await house.archive.size()).tasks == 40
        assert await house.costs() == before
        if stop.left > 0:
            break
    assert stopped == 5  # twice a put and a batch, and the records


async def test_what_is_archived_is_read_as_before_and_not_changed(house: ArchiveHouse) -> None:
    old = await house.add(turns=1, title="mend the roof")
    shown = Queries(house.store, Activities(), Cursors(b"k"), archive=house.archive)
    before = await shown.task(ADA, old.id)
    events = await shown.events(ADA, old.id, after=0, limit=2)

    await house.work()
    after = await shown.task(ADA, old.id[-8:])

    assert replace(after, archived_at=None) == before
    assert after.archived_at == house.clock.wall
    assert await shown.events(ADA, old.id, after=0, limit=2) == events
    assert len((await shown.results(ADA, old.id)).results) == 1
    assert (await shown.tasks(ADA, TaskFilter())).tasks == ()
    for asked in (TaskFilter(archived=True), TaskFilter(archived=True, q="ROOF")):
        assert (await shown.tasks(ADA, asked)).tasks == (old,)
    other = TaskFilter(archived=True, state=(TaskState.FAILED,))
    assert (await shown.tasks(ADA, other)).tasks == ()
    with pytest.raises(Archived):
        await shown.find(ADA, old.id)
    stranger = replace(ADA, project=ProjectId("else"))
    with pytest.raises(NotFound):
        await shown.task(stranger, old.id)


async def test_what_is_archived_is_found_by_its_words(house: ArchiveHouse) -> None:
    old = await house.add(title="mend the roof")
    await house.add(title="paint the roof", project=ProjectId("else"))
    await house.work()

    async def found(text: str) -> list[str]:
        words = Words(text=text, project=ProjectId("default"))
        return [key for _, key in (await house.archive.search(words)).keys]

    assert await found("roof men") == [old.id]
    assert await found(f"please {old.id}") == [old.id]
    assert await found("paint") == []
    assert await found("") == []


async def test_the_stores_own_index_forgets_what_is_archived(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "hub.sqlite", options=SMALL)
    await store.open()
    house = ArchiveHouse(store, MemoryArchive())
    old, young = await house.add(), await house.add(days_ago=1)
    assert await store.index(100)

    await house.work()

    count = "SELECT count(*) FROM findable"
    assert await store._read(lambda db: db.execute(count).get) == 1
    words = Words(text="please", project=ProjectId("default"))
    assert [key for _, key in (await store.search(words)).keys] == [young.id]
    assert old.id != young.id
    await store.close()


async def test_a_damaged_archive_is_named_and_nothing_leaves_the_store(tmp_path: Path) -> None:
    path = tmp_path / sqlite_archive.ARCHIVE_FILE
    path.write_bytes(b"no archive" * 1_000)
    store = MemoryStore()
    house = ArchiveHouse(store, SqliteArchive(path))
    old = await house.add()

    with pytest.raises(ArchiveDamaged, match=r"agentcom backup restore"):
        await house.work()

    assert len(await house.rows_of(old.id)) == 3
    assert path.read_bytes() == b"no archive" * 1_000
    await house.archive.close()


async def test_a_store_that_fails_ends_the_pass(house: ArchiveHouse) -> None:
    await house.add()

    async def fail(_: Batch) -> Verdict:
        raise StoreFailed("gone")

    house.store.commit = fail  # type: ignore[assignment, method-assign]  # its disk is gone
    with pytest.raises(StoreFailed):
        await house.work()
