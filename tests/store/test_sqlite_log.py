"""The log in documents: read from every place as from a store that keeps single records."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcom.model.batch import Append
from agentcom.model.ids import BatchId
from agentcom.store import codec, sqlite_lists, sqlite_log, sqlite_open
from agentcom.store.memory import MemoryStore
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.testing.store_rows import batch, committed, new_task

NAMES = ["t1", "t2", "t3"]
LOGS = [None, "task/t1", "task/t2", "task/t3", "task/t", "task/t11"]
PROFILE = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@PROFILE
@given(
    batches=st.lists(st.lists(st.sampled_from(NAMES), max_size=5), max_size=6),
    arrears=st.sampled_from([0, 1, 4, 512]),
)
async def test_every_page_of_every_log_is_as_in_memory(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    batches: list[list[str]],
    arrears: int,
) -> None:
    monkeypatch.setattr(sqlite_lists, "ARREARS_MAX", arrears)
    memory = MemoryStore()
    store = SqliteStore(tmp_path_factory.mktemp("log") / "store.db", options=SMALL)
    await store.open()
    for number, names in enumerate(batches):
        step = batch(f"b{number}", appends=names)
        assert await committed(store, step) == await committed(memory, step)

    total = sum(map(len, batches))
    for log in LOGS:
        for after in range(-1, total + 2):
            for limit in (1, 2, total + 1):
                page = list(await store.read(log, after, limit))
                assert page == list(await memory.read(log, after, limit))
    await store.close()


async def test_feeds_of_one_batch_are_read_from_its_document_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "store.db", options=SMALL)
    await store.open()
    together = [f"together-{number}" for number in range(20)]
    await committed(store, batch("b1", appends=together))
    decoded: list[bytes] = []

    def decode(doc: bytes) -> Sequence[Append]:
        decoded.append(doc)
        return codec.decode_records(doc)

    monkeypatch.setattr(sqlite_log, "codec", SimpleNamespace(decode_records=decode))

    pages = [await store.read(f"task/{name}", 0, 9) for name in together]
    await store.close()

    assert [len(page) for page in pages] == [1] * len(together)
    assert len(decoded) == 1


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM feed WHERE log = 'task/t2'", "the records of task/t2 from 2 on are missing"),
        ("INSERT INTO feed VALUES ('task/t9', 2)", "has 4 places, and there are 3"),
        ("UPDATE log SET doc = CAST('[' AS BLOB) WHERE first = 2", "from 2 on cannot be read"),
        ("UPDATE log SET records = 3 WHERE first = 1", "the records from 2 on are not 2"),
        ("UPDATE log SET records = 1 WHERE first = 2", "the records from 2 on are not 1"),
    ],
)
async def test_damage_to_the_log_and_its_index_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, found: str
) -> None:
    monkeypatch.setattr(sqlite_lists, "ARREARS_MAX", 0)  # all but the last batch is listed
    path = tmp_path / "store.db"
    store = SqliteStore(path, options=SMALL)
    await store.open()
    await committed(store, batch("b1", appends=["t1"]))
    await committed(store, batch("b2", appends=["t1", "t2"]))
    await committed(store, batch("b3", appends=["t3"]))
    assert list(await store.verify()) == []
    await store.close()
    db = sqlite_open.connect(path)
    db.execute(damage)
    db.close()

    store = SqliteStore(path, options=SMALL)
    await store.open()
    problems = [problem.what for problem in await store.verify()]
    await store.close()

    assert any(found in problem for problem in problems)


async def test_numbers_go_on_after_batches_with_and_without_records(tmp_path: Path) -> None:
    for number in range(6):
        store = SqliteStore(tmp_path / "store.db", options=SMALL)
        await store.open()
        mixed = new_task(f"t{number}") if number % 3 else ()
        first = await committed(
            store, batch(f"b{number}", *mixed, appends=["t1"] * (number % 2 * 2))
        )
        known = [await store.outcome(BatchId(f"b{each}")) for each in range(number + 2)]
        await store.close()

        assert first == number // 2 * 2 + 1
        assert known == [True] * (number + 1) + [False]
