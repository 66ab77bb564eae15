"""Damaged files are refused, or found, or harmless: never silently wrong."""

import asyncio
import shutil
from collections.abc import Iterator

import pytest

from agentcom.store import sqlite_open
from agentcom.testing.crash import damage, suite
from agentcom.testing.crash.damage import Bench, Damage

pytestmark = pytest.mark.xdist_group("damage")
SEEDS = 2


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    folder = suite.memory_folder()
    made = Bench(folder)
    asyncio.run(made.prepare())
    yield made
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", damage.ALL)
async def test_damage_is_noticed_before_it_does_harm(bench: Bench, name: str) -> None:
    for seed in range(SEEDS):
        assert await bench.problem(damage.ALL[name], seed) is None


@pytest.mark.parametrize("one", damage.PAGES, ids=lambda one: one.name)
async def test_damage_of_a_large_file_is_found_when_it_is_read(bench: Bench, one: Damage) -> None:
    for seed in range(SEEDS):
        assert await bench.problem(one, seed, large=True) is None


async def test_damage_that_goes_unnoticed_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_open, "_check_sound", lambda _db, _path: None)

    found = [await bench.problem(damage.ALL["table-leaf"], seed) for seed in range(3)]

    assert any(one is not None for one in found)


def test_each_damage_is_tried_at_as_many_places() -> None:
    found = damage.spots(3)

    assert len(found) == len(set(found)) == 3 * 2 * len(damage.ALL)
