import pytest

from agentcom.core import notes
from agentcom.model.address import Address
from agentcom.model.errors import Conflict, InvalidInput, NotFound
from agentcom.model.ids import ProjectId, WallTime
from agentcom.model.shared_note import SharedNote

ANN, BOB = Address("user:ann"), Address("agent:bob")


def write(row: SharedNote | None, text: str, expected: int | None = None) -> SharedNote:
    return notes.written(
        row,
        name="api/style",
        project=ProjectId("p"),
        text=text,
        author=ANN,
        at=WallTime(7),
        expected=expected,
    )


def delete(row: SharedNote | None, expected: int | None = None) -> SharedNote:
    return notes.deleted(row, author=BOB, at=WallTime(9), expected=expected)


def test_versions_count_from_one_and_go_on_after_a_deletion() -> None:
    first = write(None, "a")
    second = write(first, "b")
    gone = delete(second)
    again = write(gone, "c")

    assert [note.version for note in (first, second, gone, again)] == [1, 2, 3, 4]
    assert (gone.text, gone.deleted, gone.author) == ("", True, BOB)
    assert (again.text, again.deleted) == ("c", False)


def test_a_writer_that_knows_an_older_version_is_refused() -> None:
    second = write(write(None, "a", expected=0), "b", expected=1)

    for expected in (0, 1, 3):
        with pytest.raises(Conflict, match="version 2"):
            write(second, "c", expected=expected)
    with pytest.raises(Conflict):
        delete(second, expected=1)
    assert write(delete(second, expected=2), "c", expected=0).version == 4


def test_only_a_note_that_is_there_can_be_deleted() -> None:
    for row in (None, delete(write(None, "a"))):
        with pytest.raises(NotFound):
            delete(row)


@pytest.mark.parametrize("name", ["a", "api/style", "a.b-c_d/0", "x" * notes.NAME_CHARS])
def test_names_of_notes(name: str) -> None:
    assert notes.check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "A", "a b", "../a", ".a", "a@1", "ä", "x" * 201]
)
def test_what_is_no_name_of_a_note(name: str) -> None:
    with pytest.raises(InvalidInput):
        notes.check_name(name)
