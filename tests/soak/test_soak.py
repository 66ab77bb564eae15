"""Each part in its smallest form: real processes and sockets; only what is counted is judged."""

import pytest

from agentcom.sidecar import processes
from agentcom.testing.soak import day, idle, slow, storm
from agentcom.testing.soak.__main__ import TINY
from agentcom.testing.soak.bars import Outcome

pytestmark = [
    pytest.mark.skipif(not processes.has_table(), reason="looks at /proc"),
    pytest.mark.xdist_group("bench"),
    pytest.mark.slow,
    pytest.mark.timeout(180),
]


def missed(outcome: Outcome) -> list[str]:
    """Return what did not hold of all that no clock decides."""
    return [
        f"{bar.name}: {bar.measured}, not {bar.bar}"
        for bar in outcome.bars
        if bar.counted and not bar.holds
    ]


def say(_text: str) -> None:
    """Nobody listens."""


def test_a_small_fleet_survives_every_storm_with_all_it_holds() -> None:
    outcome = storm.run(TINY.storm, say)

    assert missed(outcome) == []
    assert outcome.figures["dials"] > 3 * TINY.storm.machines


def test_readers_that_stall_get_everything_in_the_end() -> None:
    outcome = slow.run(TINY.slow, say)

    assert missed(outcome) == []
    assert outcome.figures["published_records"] > 100


def test_a_short_day_ends_every_task_once() -> None:
    outcome = day.run(TINY.day, say)

    assert missed(outcome) == []
    assert set(outcome.figures["by_state"]) == {"cancelled", "completed", "failed"}


def test_the_model_server_counts_what_a_task_asks_and_nothing_else() -> None:
    outcome = idle.run(TINY.idle, say)

    assert missed(outcome) == []
