"""What every store finds by words; part of `StoreSuite`."""

from agentcom.model.address import Address
from agentcom.model.batch import Change, Delete, Insert, Table
from agentcom.model.ids import DEFAULT_PROJECT, ProjectId, WallTime
from agentcom.model.message import Message, MessageId
from agentcom.model.shared_note import SharedNote, note_version_key
from agentcom.store.base import Store
from agentcom.store.search import Words
from agentcom.testing.store_rows import batch, committed, new_task

ANN = Address("user:ann")


class SearchSuite:
    """Tests of `Store.search` and `Store.index`, over the suite's fixture `store`."""

    async def test_rows_with_all_words_are_found(self, store: Store) -> None:
        await committed(store, batch("b1", *_said(m1="The parser is yours", m2="the printer")))
        await _indexed(store)

        assert await _found(store, "parser") == {"m1"}
        assert await _found(store, "THE pars") == {"m1"}
        assert await _found(store, "the") == {"m1", "m2"}
        assert await _found(store, "parser printer") == set()

    async def test_signs_of_a_query_are_only_text(self, store: Store) -> None:
        await committed(store, batch("b1", *_said(m1='say "hello" (twice)', m2="NOT OR NEAR")))
        await _indexed(store)

        assert await _found(store, '"hello') == {"m1"}
        assert await _found(store, "NOT OR") == {"m2"}
        assert await _found(store, "   ") == set()
        for text in ("*", '"', "a:b", "^x", "(", "-m1", "' OR 1"):
            await _found(store, text)

    async def test_a_project_finds_only_its_own(self, store: Store) -> None:
        await committed(
            store, batch("b1", *_said(m1="secret"), *_said(ProjectId("x"), m2="secret"))
        )
        await _indexed(store)

        assert await _found(store, "secret") == {"m1"}
        assert await _found(store, "secret", ProjectId("x")) == {"m2"}

    async def test_a_note_is_its_newest_version(self, store: Store) -> None:
        await committed(store, batch("b1", _note(1, "tabs")))
        await _indexed(store)
        await committed(store, batch("b2", _note(2, "spaces")))
        await _indexed(store)

        assert await _found(store, "tabs") == set()
        assert await _found(store, "spaces") == {f"{DEFAULT_PROJECT}/style"}

        await committed(store, batch("b3", _note(3, "", deleted=True)))
        await _indexed(store)
        assert await _found(store, "spaces") == set()

    async def test_tasks_are_found_by_title(self, store: Store) -> None:
        await committed(store, batch("b1", *new_task("t1")))
        await _indexed(store)

        assert await _found(store, "t") == {"t1"}

    async def test_a_message_that_is_gone_is_found_no_more(self, store: Store) -> None:
        await committed(store, batch("b1", *_said(m1="old", m2="old")))
        await _indexed(store)
        await committed(store, batch("b2", Delete(Table.MESSAGE, "m1", 1)))
        await _indexed(store)

        assert await _found(store, "old") == {"m2"}

    async def test_only_some_tables_are_looked_at(self, store: Store) -> None:
        await committed(store, batch("b1", *_said(m1="style"), _note(1, "style")))
        await _indexed(store)
        asked = Words(text="style", project=DEFAULT_PROJECT, tables=(Table.MESSAGE,))

        assert [key for _, key in (await store.search(asked)).keys] == ["m1"]


def _said(project: ProjectId = DEFAULT_PROJECT, **bodies: str) -> list[Change]:
    return [
        Insert(
            Table.MESSAGE,
            name,
            Message(
                id=MessageId(name),
                sender=ANN,
                at=WallTime(1),
                body=body,
                thread=MessageId(name),
                project=project,
            ),
        )
        for name, body in bodies.items()
    ]


def _note(version: int, text: str, *, deleted: bool = False) -> Insert:
    note = SharedNote(
        name="style", text=text, author=ANN, at=WallTime(1), deleted=deleted, version=version
    )
    return Insert(Table.NOTE_VERSION, note_version_key(note.project, note.name, version), note)


async def _indexed(store: Store) -> None:
    while not await store.index(1):
        pass


async def _found(store: Store, text: str, project: ProjectId = DEFAULT_PROJECT) -> set[str]:
    found = await store.search(Words(text=text, project=project))
    assert found.complete
    return {key for _, key in found.keys}
