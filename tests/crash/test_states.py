import random

from agentcom.testing.crash.operations import Kind, Operation
from agentcom.testing.crash.states import Choice, Disk, choices

NOTHING = frozenset[int]()


def used(*operations: Operation, initial: dict[str, bytes] | None = None) -> Disk:
    disk = Disk(initial or {"home/a": b"old"})
    for number, operation in enumerate(operations):
        disk.apply(number, operation)
    return disk


def write(path: str, data: bytes, offset: int = 0) -> Operation:
    return Operation(Kind.WRITE, path, offset, data)


def outcomes(disk: Disk) -> set[tuple[tuple[str, bytes], ...]]:
    found = choices(disk, random.Random(1), mixtures=32)
    return {tuple(sorted(disk.build(choice).files.items())) for choice in found}


def test_a_write_may_be_there_or_not_until_its_file_is_synced() -> None:
    pending = used(write("home/a", b"new"))
    synced = used(write("home/a", b"new"), Operation(Kind.SYNC, "home/a"))

    assert outcomes(pending) == {(("home/a", b"old"),), (("home/a", b"new"),)}
    assert outcomes(synced) == {(("home/a", b"new"),)}


def test_a_sync_of_another_file_makes_nothing_durable() -> None:
    disk = used(
        write("home/a", b"new"),
        Operation(Kind.SYNC, "home/b"),
        initial={"home/a": b"old", "home/b": b""},
    )

    assert disk.build(Choice(NOTHING, 0)).files["home/a"] == b"old"


def test_writes_of_several_files_are_kept_in_any_order() -> None:
    disk = used(
        write("home/a", b"1"), write("home/b", b"2"), initial={"home/a": b"", "home/b": b""}
    )

    assert (("home/a", b""), ("home/b", b"2")) in outcomes(disk)
    assert (("home/a", b"1"), ("home/b", b"")) in outcomes(disk)


def test_a_new_file_may_be_gone_until_its_folder_is_synced() -> None:
    made = (
        Operation(Kind.CREATE, "home/b"),
        write("home/b", b"x"),
        Operation(Kind.SYNC, "home/b"),
    )

    gone = used(*made).build(Choice(NOTHING, 0))
    there = used(*made, Operation(Kind.SYNC_FOLDER, "home")).build(Choice(NOTHING, 0))

    assert dict(gone.files) == {"home/a": b"old"}
    assert dict(there.files) == {"home/a": b"old", "home/b": b"x"}


def test_what_is_in_a_folder_goes_with_its_name() -> None:
    disk = used(
        Operation(Kind.MAKE_FOLDER, "new"),
        Operation(Kind.CREATE, "new/b"),
        Operation(Kind.SYNC_FOLDER, "new"),
    )

    assert "new/b" not in disk.build(Choice(NOTHING, 0)).files
    assert "new/b" in disk.build(Choice(NOTHING, 1)).files


def test_a_deleted_file_and_a_renamed_one_may_come_back() -> None:
    disk = used(Operation(Kind.RENAME, "home/a", target="home/c"), Operation(Kind.UNLINK, "home/c"))

    found = [dict(disk.build(Choice(NOTHING, names)).files) for names in range(3)]
    assert found == [{"home/a": b"old"}, {"home/c": b"old"}, {}]


def test_a_torn_write_leaves_whole_sectors() -> None:
    disk = used(write("home/a", b"x" * 1_000, offset=300), initial={"home/a": bytes(1_300)})

    torn = disk.build(Choice(frozenset({0}), 0, {0: frozenset({1})})).files["home/a"]

    assert torn == bytes(512) + b"x" * 512 + bytes(276)


def test_a_truncation_is_pending_as_a_write_is() -> None:
    disk = used(Operation(Kind.TRUNCATE, "home/a", 1), write("home/a", b"z", offset=2))

    assert disk.build(Choice(frozenset({1}), 0)).files["home/a"] == b"olz"
    assert disk.build(Choice(frozenset({0, 1}), 0)).files["home/a"] == b"o\0z"


def test_what_a_failed_sync_covers_stays_doubtful_after_one_that_works() -> None:
    disk = used(write("home/a", b"1"))
    disk.fail(Operation(Kind.SYNC, "home/a"))
    disk.apply(1, write("home/a", b"2", offset=1))
    disk.apply(2, Operation(Kind.SYNC, "home/a"))

    assert disk.build(Choice(NOTHING, 0)).files["home/a"] == b"o2d"
    assert disk.build(Choice(frozenset({0}), 0)).files["home/a"] == b"12d"


def test_equal_files_have_equal_digests() -> None:
    disk = used(write("home/a", b"old"))

    assert disk.build(Choice(NOTHING, 0)).digest == disk.build(Choice(frozenset({0}), 0)).digest
