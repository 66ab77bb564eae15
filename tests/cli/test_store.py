"""`agentcom store` on the data of a hub that does not run."""

import asyncio
import json
from pathlib import Path

import pytest

from agentcom.app import STORE_FILE
from agentcom.model.batch import Delete, Insert, Table
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.testing.store_rows import batch, body, committed, task
from tests.cli.terminal import Here


@pytest.fixture
def hub(home: Path) -> Path:
    """A hub that had many long tasks, and has two."""

    async def run() -> None:
        store = SqliteStore(home / "hub" / STORE_FILE, options=SMALL)
        await store.open()
        names = [f"t{n}" for n in range(200)]
        for name in names:
            rows = [
                Insert(Table.TASK, name, task(name)),
                Insert(Table.BODY, name, body(name, "x" * 4_000)),
            ]
            await committed(store, batch(f"b-{name}", *rows, appends=[name]))
        gone = [Delete(table, name, 1) for name in names[2:] for table in (Table.TASK, Table.BODY)]
        await committed(store, batch("gone", *gone))
        await store.close()

    asyncio.run(run())
    return home


def test_what_a_hub_takes_is_shown_and_given_back(hub: Path, agentcom: Here) -> None:
    before = json.loads(agentcom("store", "stats", "--json").out)
    said = agentcom("store", "compact")
    after = json.loads(agentcom("store", "stats", "--json").out)

    assert (before["rows"]["task"], before["records"], before["first_record"]) == (2, 200, 1)
    assert before["free"] > 700_000
    assert after["free"] == 0
    assert after["rows"] == before["rows"]
    assert after["store"] < before["store"] - 700_000
    assert said.out.startswith("store\t")
    assert "MiB" in agentcom("store", "stats").out


def test_an_export_makes_a_new_hub(hub: Path, agentcom: Here, tmp_path: Path) -> None:
    file, other = tmp_path / "hub.jsonl", str(tmp_path / "other")

    said = agentcom("store", "export", str(file))
    made = agentcom("store", "import", str(file), "--hub-home", other)
    again = agentcom("store", "import", str(file), "--hub-home", other)

    assert said.lines == [[str(file), "206 lines"]]
    assert file.stat().st_mode & 0o777 == 0o600
    assert "enrol" in made.err
    rows = json.loads(agentcom("store", "stats", "--hub-home", other, "--json").out)["rows"]
    assert rows == {"task": 2, "body": 2, "audit": 1}  # that it was imported
    assert (again.code, "(conflict)" in again.err) == (5, True)


def test_an_export_that_was_cut_is_refused_with_its_line(
    hub: Path, agentcom: Here, tmp_path: Path
) -> None:
    file = tmp_path / "hub.jsonl"
    agentcom("store", "export", str(file))
    file.write_bytes(file.read_bytes()[:-40])

    said = agentcom("store", "import", str(file), "--hub-home", str(tmp_path / "other"))

    assert (said.code, "line 206" in said.err) == (2, True)


def test_without_a_hub_there_is_nothing_to_measure(home: Path, agentcom: Here) -> None:
    for verb in (["stats"], ["compact"], ["export", str(home / "x")]):
        said = agentcom("store", *verb)
        assert (said.code, "there is no hub" in said.err) == (3, True)
    assert not (home / "x").exists()
