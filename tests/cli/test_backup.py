"""`agentcom backup` on the data of a hub that does not run."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from agentcom.app import STORE_FILE
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.store.sqlite_journal import Journal
from agentcom.testing.store_rows import batch, new_task
from tests.cli.terminal import Here


def live(home: Path, *names: str) -> None:
    """Let a hub live that stores tasks, and writes down its journal."""

    async def run() -> None:
        journal = Journal(home / "hub" / "backups" / "journal")
        store = SqliteStore(home / "hub" / STORE_FILE, options=SMALL, journal=journal)
        await store.open()
        for name in names:
            await store.commit(batch(f"b-{name}", *new_task(name), appends=[name]))
        await store.close()

    asyncio.run(run())


@pytest.fixture
def hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("os.nice", lambda _by: 0)  # for good, in this process
    live(home, "t1", "t2")
    return home


def test_copies_are_made_listed_tried_and_put_back(hub: Path, agentcom: Here) -> None:
    (first,) = agentcom("backup", "now").lines
    live(hub, "t3")
    (second,) = agentcom("backup", "now").lines
    live(hub, "t4", "t5")

    assert [row[0] for row in agentcom("backup", "ls").lines] == [second[0], first[0]]
    assert len(agentcom("backup", "verify").lines) == 2
    (drilled,) = agentcom("backup", "drill").lines
    assert drilled[-1].endswith(f"rows equal, from {first[0]} and the journal")

    said = agentcom("backup", "restore", "--batch", "4")
    assert said.out.startswith(f"restored   {second[0]}, and 1 batches from the journal")
    assert "lost       1 tasks that came later: t5" in said.out
    made = json.loads(agentcom("backup", "restore", first[0], "--json").out)
    assert (made["number"], made["states"], made["lost_count"]) == (2, {"queued": 2}, 2)


def test_a_hub_that_lives_in_the_home_itself_is_found(home: Path, agentcom: Here) -> None:
    live(home, "t1")
    for path in (home / "hub").iterdir():
        path.rename(home / path.name)
    (home / "hub").rmdir()

    (made,) = agentcom("backup", "now").lines

    assert (home / "backups" / "copies" / made[0]).is_dir()
    assert ["store", "ok"] in [row[:2] for row in agentcom("doctor", "--quick").lines]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_what_root_makes_belongs_to_the_account_of_the_hub(hub: Path, agentcom: Here) -> None:
    for path in (hub / "hub", *(hub / "hub").rglob("*")):
        os.chown(path, 12_345, 12_345)

    agentcom("backup", "now")
    agentcom("backup", "drill")
    agentcom("backup", "restore")

    assert {path.lstat().st_uid for path in (hub / "hub").rglob("*")} == {12_345}


def test_what_cannot_be_done_is_told_with_its_code(hub: Path, agentcom: Here) -> None:
    assert agentcom("backup", "restore").err.startswith("error: there is no copy")
    agentcom("backup", "now")

    late = agentcom("backup", "restore", "--batch", "9")
    assert (late.code, "(point_not_reached)" in late.err) == (5, True)
    early = agentcom("backup", "restore", "--at", "2001-01-01")
    assert "every copy is newer" in early.err
    assert agentcom("backup", "restore", "--at", "soon").code == 2
    elsewhere = agentcom("backup", "now", "--hub-home", str(hub / "none"))
    assert (elsewhere.code, "there is no hub" in elsewhere.err) == (3, True)


def test_a_folder_that_takes_nothing_is_told(hub: Path, agentcom: Here) -> None:
    (hub / "file").write_text("not a folder")

    said = agentcom("backup", "now", "--folder", str(hub / "file" / "x"))

    assert said.code == 1
    assert "try: another --folder" in said.err
