"""States that recovery makes alike are judged once: nothing may hide behind one that is sound."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from agentcom.testing.crash import judging, life, power
from agentcom.testing.crash.life import Plan
from agentcom.testing.crash.operations import Kind, Operation
from agentcom.testing.crash.quick import judged_stores
from agentcom.testing.crash.recording import STORE, Done
from agentcom.testing.crash.recovery import Recovered, recovered

LOG = f"{STORE}-wal"


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """What a power loss leaves just before a log is written into the database."""
    recording = life.record(tmp_path_factory.mktemp("life"), Plan("alike", 2, 12))
    done = [entry.operation for entry in recording.entries if isinstance(entry, Done)]
    folded = max(at for at, one in enumerate(done) if one.path == STORE and one.kind is Kind.WRITE)
    syncs = [at for at in range(folded) if done[at] == Operation(Kind.SYNC, LOG)]
    return next(
        power.cases(recording, mixtures=0, part=range(syncs[-1], syncs[-1] + 1))
    ).state.files


def recovery(folder: Path, files: Mapping[str, bytes]) -> Recovered | None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    with judged_stores():
        return recovered(folder / STORE, files)


def test_a_log_and_what_it_was_written_into_hold_the_same(
    memory: Path, lived: Mapping[str, bytes]
) -> None:
    first = recovery(memory, lived)
    assert first is not None
    assert first.frames > 0
    again = recovery(memory, {**lived, STORE: first.database, LOG: b""})

    assert again is not None
    assert again.database == first.database
    assert (first.was_there, again.was_there) == (False, True)
    assert again != first  # how it came about is a part of it


@pytest.mark.parametrize("cut", [1, 4_096, 40_000])
def test_what_is_lost_of_the_log_shows(memory: Path, lived: Mapping[str, bytes], cut: int) -> None:
    whole = recovery(memory, lived)
    shorter = recovery(memory, {**lived, LOG: lived[LOG].rstrip(b"\0")[:-cut]})

    assert whole is not None
    assert shorter is not None
    assert shorter.frames < whole.frames
    assert shorter.database != whole.database


def test_another_file_beside_it_makes_another_state(
    memory: Path, lived: Mapping[str, bytes]
) -> None:
    one = recovery(memory, lived)
    other = recovery(memory, {**lived, f"{STORE}-last-commit": b""})

    assert one is not None
    assert other is not None
    assert one.database == other.database
    assert one != other


@pytest.mark.parametrize("broken", [b"", b"no database", None])
def test_what_is_no_whole_database_is_left_to_the_store(
    memory: Path, lived: Mapping[str, bytes], broken: bytes | None
) -> None:
    changed = {f"{STORE}-journal": b""} if broken is None else {STORE: broken}

    assert recovery(memory, {**lived, **changed}) is None


@pytest.mark.parametrize(
    ("file", "last"),
    [
        ("-wal", 12),
        *(pytest.param(one, 60, marks=pytest.mark.slow) for one in ("-wal", "store.db")),
    ],
)
def test_as_much_is_found_as_when_each_state_is_opened(
    memory: Path, monkeypatch: pytest.MonkeyPatch, file: str, last: int
) -> None:
    (memory / "life").mkdir()
    recording = life.record(memory / "life", Plan("planted", 2, 24), deaf={Kind.SYNC: file})
    count = recording.operations()

    def found(folder: str, whole_every: int) -> power.Tally:
        monkeypatch.setattr(judging, "WHOLE_EVERY", whole_every)
        part = range(count - last, count)
        return power.judged(
            memory / folder, recording, mixtures=3, part=part, violations_max=10_000
        )

    quick, thorough = found("quick", judging.WHOLE_EVERY), found("thorough", 1)

    assert [one[:3] for one in quick.violations] == [one[:3] for one in thorough.violations]
    assert quick.violations
    assert thorough.whole > quick.whole
