from dataclasses import dataclass

import msgspec
import pytest

from agentcom.hub import notes as module
from agentcom.hub import speaking
from agentcom.hub.notes import Notes
from agentcom.hub.speaking import Speaker
from agentcom.hub.writing import Asked, Writer
from agentcom.model import limits
from agentcom.model.batch import Table
from agentcom.model.errors import Conflict, InvalidInput, NotFound
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import ProjectId, UserId
from agentcom.model.shared_note import SharedNote
from agentcom.protocol import calls, told
from agentcom.store.base import Query
from tests.hub.doubles import CountingIds, ManualClock, YieldingStore

ONCE = Asked(cause="t")


def person(name: str, project: str = "default") -> Speaker:
    identity = Identity(
        role=Role.SUBMITTER, user=UserId(name), credential="c", project=ProjectId(project)
    )
    return speaking.person(identity)


ANN, BOB = person("ann"), person("bob")


@dataclass
class House:
    notes: Notes
    store: YieldingStore
    clock: ManualClock

    async def write(
        self, name: str, text: str, who: Speaker = ANN, version: int | None = None
    ) -> SharedNote:
        call = calls.NoteWrite(name=name, text=text, version=version)
        answer = await self.notes.write(who, call, ONCE)
        assert isinstance(answer, told.NoteShown)
        return answer.note

    async def read(self, name: str, version: int | None = None, who: Speaker = ANN) -> SharedNote:
        answer = await self.notes.read(who, calls.NoteRead(name=name, version=version), ONCE)
        assert isinstance(answer, told.NoteShown)
        return answer.note

    async def names(self, who: Speaker = ANN, limit: int = 50, prefix: str = "") -> list[str]:
        found: list[str] = []
        after = None
        while True:
            call = calls.NoteList(prefix=prefix, after=after, limit=limit)
            answer = await self.notes.list(who, call, ONCE)
            assert isinstance(answer, told.NotesShown)
            assert all(not note.text for note in answer.notes)
            found += [note.name for note in answer.notes]
            after = answer.next
            if after is None:
                return found

    async def delete(self, name: str) -> None:
        await self.notes.delete(ANN, calls.NoteDelete(name=name), ONCE)

    async def rows(self, table: Table) -> int:
        return len((await self.store.query(Query(table=table, limit=1_000))).rows)


@pytest.fixture
def house() -> House:
    store, clock = YieldingStore(), ManualClock()
    return House(Notes(store, Writer(store, clock, CountingIds()), clock), store, clock)


async def test_what_is_written_can_be_read_by_all_of_the_project(house: House) -> None:
    await house.write("api/style", "tabs")
    await house.write("api/style", "spaces", BOB)

    assert (await house.read("api/style", who=BOB)).text == "spaces"
    assert (await house.read("api/style", 1)).text == "tabs"
    assert (await house.read("api/style")).author == "user:bob"
    with pytest.raises(NotFound):
        await house.read("api/style", who=person("eve", "other"))
    with pytest.raises(NotFound):
        await house.read("api/style", 3)


async def test_of_two_that_know_the_same_version_one_is_refused(house: House) -> None:
    await house.write("n", "a", version=0)

    await house.write("n", "b", version=1)
    with pytest.raises(Conflict, match="version 2"):
        await house.write("n", "c", BOB, version=1)
    assert (await house.read("n")).text == "b"


async def test_notes_are_listed_by_name_page_by_page(house: House) -> None:
    for name in ("b", "a/x", "a", "a/y", "c"):
        await house.write(name, "t")
    await house.write("z", "t", person("eve", "other"))
    await house.delete("b")

    for limit in (1, 2, 50):
        assert await house.names(limit=limit) == ["a", "a/x", "a/y", "c"]
    assert await house.names(prefix="a/") == ["a/x", "a/y"]


async def test_the_history_of_a_note_is_its_own(house: House) -> None:
    for text in ("1", "2", "3"):
        await house.write("a", text)
    await house.write("a/b", "other")

    first = await house.notes.history(ANN, calls.NoteHistory(name="a", limit=2), ONCE)
    assert isinstance(first, told.NotesShown)
    assert [note.version for note in first.notes] == [3, 2]
    assert first.next is not None
    call = calls.NoteHistory(name="a", limit=2, before=int(first.next))
    second = await house.notes.history(ANN, call, ONCE)
    assert isinstance(second, told.NotesShown)
    assert [note.version for note in second.notes] == [1]
    assert second.next is None
    with pytest.raises(NotFound):
        await house.notes.history(ANN, calls.NoteHistory(name="none"), ONCE)


async def test_a_deleted_note_is_gone_by_name_and_kept_by_number_for_a_while(house: House) -> None:
    await house.write("a", "1")
    await house.delete("a")

    with pytest.raises(NotFound):
        await house.read("a")
    assert (await house.read("a", 1)).text == "1"
    assert await house.names() == []

    house.clock.advance(limits.NOTES_KEEP_MS)
    assert await house.notes.prune(house.clock.now().wall) == 2
    with pytest.raises(NotFound):
        await house.read("a", 1)
    assert await house.rows(Table.NOTE) == 0


async def test_only_what_is_over_is_pruned_in_bounded_steps(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PRUNE_ROWS", 2)
    for text in "12345":
        await house.write("old", text)
        await house.write("kept", text)
    await house.delete("old")
    house.clock.advance(limits.NOTES_KEEP_MS)

    assert await house.notes.prune(house.clock.now().wall) == 6
    assert await house.names() == ["kept"]
    assert await house.rows(Table.NOTE_VERSION) == 5


async def test_a_project_has_only_so_many_notes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "NOTES_MAX", 2)
    await house.write("a", "1")
    await house.write("b", "1")

    with pytest.raises(Conflict, match="at most 2"):
        await house.write("c", "1")
    await house.write("a", "2")
    await house.delete("a")
    await house.write("c", "1")


async def test_old_versions_go_when_there_are_too_many(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "NOTE_VERSIONS_MAX", 2)
    for text in "123":
        await house.write("a", text)

    with pytest.raises(NotFound):
        await house.read("a", 1)
    assert (await house.read("a", 2)).text == "2"


async def test_a_repeat_under_one_key_writes_once(house: House) -> None:
    call = calls.NoteWrite(name="a", text="1")
    asked = Asked(cause="t", key="k", payload="p")

    first = await house.notes.write(ANN, call, asked)
    again = await house.notes.write(ANN, call, asked)

    assert isinstance(again, msgspec.Raw)
    assert msgspec.json.decode(again, type=told.NoteShown) == first
    assert (await house.read("a")).version == 1


async def test_a_name_that_is_none_is_refused(house: House) -> None:
    for name in ("../x", "A", "a//b"):
        with pytest.raises(InvalidInput):
            await house.write(name, "t")
        with pytest.raises(InvalidInput):
            await house.read(name)
