"""Real hubs, struck at one operation of their disk."""

from pathlib import Path

import pytest

from agentcom.testing.crash import hub, kills
from agentcom.testing.crash.hub import How, Strike
from agentcom.testing.crash.kills import KILLED, Struck
from agentcom.testing.crash.operations import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_hubs_that_are_killed_at_their_disk_keep_their_promises(memory: Path) -> None:
    moments = await kills.strikes(memory / "peace")
    store = Struck(memory / "store", seed=1)
    assert await store.live(None) == kills.Round(0, [])

    rounds = [one for each in kills.sample(moments, 14, seed=2) for one in await store.struck(each)]
    last = await store.live(None)

    assert [problem for one in rounds for problem in one.problems] == []
    assert sum(one.exit_code == KILLED for one in rounds) >= 12
    assert last == kills.Round(0, [])
    assert len(moments) > 500
    assert store.acknowledged > 100


@pytest.mark.parametrize(
    ("kind", "file", "at"),
    [
        (Kind.SYNC, "-wal", 2),
        (Kind.SYNC, "-wal", 12),
        (Kind.SYNC, "hub.sqlite", 2),
        (Kind.WRITE, "-wal", 60),
        (Kind.WRITE, "hub.sqlite", 9),
    ],
)
async def test_a_hub_whose_disk_fails_ends_and_the_next_one_has_everything(
    memory: Path, kind: Kind, file: str, at: int
) -> None:
    store = Struck(memory / "store", seed=1)
    await store.live(None)

    failed = await store.live(Strike(kind, file, at, How.FAIL))
    after = await store.live(None)

    assert failed.exit_code not in (0, KILLED, None)
    assert [failed.problems, after.problems] == [[], []]
    assert after.exit_code == 0


def test_a_moment_is_written_as_it_is_read() -> None:
    strike = Strike(Kind.SYNC, "-wal", 3, How.KILL_AFTER)

    assert hub.parse(str(strike)) == strike
