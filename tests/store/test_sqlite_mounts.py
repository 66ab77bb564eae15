"""Copies and data on disks of their own: too small, or mounted where nothing can be written."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentcom.model.errors import StoreRefused
from agentcom.model.ids import WallTime
from agentcom.store import sqlite_export
from agentcom.store.sqlite_backups import STORE_FILE, Backups
from tests.store.test_sqlite_backups import House, names

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mount something on a folder, for the length of a test."""
    mounted: list[Path] = []

    def at(path: Path, *words: str) -> Path:
        path.mkdir(exist_ok=True)
        command = ["mount", *words, str(path)]
        if (
            os.geteuid() != 0
            or subprocess.run(command, check=False, capture_output=True).returncode
        ):
            pytest.skip("nothing can be mounted here")
        mounted.append(path)
        return path

    yield at
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def small(mount: Mount, path: Path, size: str) -> Path:
    return mount(path, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")


def read_only(mount: Mount, path: Path) -> Path:
    mount(path, "--bind", str(path))
    subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)
    return path


@pytest.fixture
async def house(tmp_path: Path) -> House:
    made = House(tmp_path)
    async with made.store() as store:
        await made.add(store, 3)
    return made


@pytest.mark.parametrize("size", ["40k", "200k"])
async def test_a_copy_for_which_there_is_no_room_is_none(
    house: House, mount: Mount, tmp_path: Path, size: str
) -> None:
    house.backups = Backups(small(mount, tmp_path / "small", size))

    with pytest.raises(OSError, match=r"(?i)disk is full|no space") as refused:
        await house.take()

    assert refused.value.errno == errno.ENOSPC
    assert (house.backups.listed(), house.backups.strange()) == ([], [])
    assert list((house.backups.folder / "copies").iterdir()) == []


@pytest.mark.parametrize("size", ["150k", "400k"])
async def test_a_restore_for_which_there_is_no_room_names_the_disk_that_is_full(
    house: House, mount: Mount, tmp_path: Path, size: str
) -> None:
    await house.take()
    house.home = small(mount, tmp_path / "small", size)

    with pytest.raises(OSError, match="No space left") as refused:
        await house.restore()

    assert (refused.value.errno, refused.value.filename) == (errno.ENOSPC, str(house.home))
    assert not (house.home / STORE_FILE).exists()


async def test_a_copy_on_a_disk_that_cannot_be_written_is_checked_and_put_back(
    house: House, mount: Mount, tmp_path: Path
) -> None:
    made = await house.take()
    read_only(mount, house.backups.folder)
    house.home = tmp_path / "other"

    house.backups.check(made)
    await house.restore()

    assert await house.tasks() == names(3)


async def test_data_on_a_disk_that_cannot_be_written_are_refused_with_a_way_out(
    house: House, mount: Mount
) -> None:
    read_only(mount, house.home)

    with pytest.raises(StoreRefused, match="copy its folder to another disk"):
        await house.take()
    with pytest.raises(StoreRefused, match="copy its folder to another disk"):
        list(sqlite_export.export(house.home, now=WallTime(0), access=False))
