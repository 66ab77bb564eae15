"""Damaged files are refused, or found, or harmless: never silently wrong."""

import asyncio
import shutil
from collections.abc import Iterator

import pytest

from agentcom.testing.crash import damage, suite
from agentcom.testing.crash.damage import Bench, Damage, Ending

CASES = [*damage.PAGES, *damage.LOGS]
pytestmark = pytest.mark.xdist_group("damage")
SEEDS = 2
MANY = 120


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    folder = suite.memory_folder()
    made = Bench(folder)
    asyncio.run(made.prepare())
    yield made
    shutil.rmtree(folder)


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
async def test_damage_is_noticed_before_it_does_harm(bench: Bench, one: Damage) -> None:
    for seed in range(SEEDS):
        ending, said = await bench.ending(one, seed)
        assert ending in one.endings, (seed, said)
        assert ending is not Ending.REFUSED or one.says in said


@pytest.mark.parametrize("one", damage.PAGES, ids=lambda one: one.name)
async def test_damage_of_a_large_file_is_found_when_it_is_read(bench: Bench, one: Damage) -> None:
    for seed in range(SEEDS):
        ending, said = await bench.ending(one, seed, large=True)
        assert ending in {*one.endings, Ending.FOUND}, (seed, said)
        assert ending is not Ending.FOUND or "agentcom backup restore" in said


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
async def test_damage_anywhere_is_noticed(bench: Bench, one: Damage, *, large: bool) -> None:
    for seed in range(MANY):
        ending, said = await bench.ending(one, seed, large=large)
        assert ending in {*one.endings, *([Ending.FOUND] if large else [])}, (seed, said)
