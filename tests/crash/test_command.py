from pathlib import Path

import pytest
from click.testing import CliRunner

from agentcom.store.sqlite_disk import Disk
from agentcom.testing.crash import suite
from agentcom.testing.crash.__main__ import main
from agentcom.testing.crash.operations import Kind
from agentcom.testing.crash.suite import Effort


@pytest.mark.parametrize(
    "state",
    ["full:20000:after", "full:5000:empty", "broken:sync:9", "move:4128", "damage:map:3:large"],
)
def test_a_sound_state_can_be_looked_at_again(state: str) -> None:
    result = CliRunner().invoke(main, ["--state", state])

    assert (result.exit_code, result.output) == (0, "sound\n")


def test_a_violation_is_told_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disk, "free_ballast", lambda _self: False)

    result = CliRunner().invoke(main, ["--state", "full:100000:after"])

    assert result.exit_code == 1
    assert "reports found room" in result.output


@pytest.mark.parametrize("state", ["life-1:700:999", "life-x:1:1", "kill:what", "full:x:after"])
def test_a_state_that_is_none_is_told(state: str) -> None:
    result = CliRunner().invoke(main, ["--state", state])

    assert result.exit_code == 2
    assert "Error" in result.output


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_small_run_finds_nothing_and_counts_everything(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "BROKEN", (Kind.SYNC,))
    effort = Effort(0, 1, 0, 0, kills=6, full_every=60, broken_every=1, moves=0, spots=1)
    told: list[str] = []

    outcome = suite.run(memory, effort, told.append)

    assert outcome.violations == []
    assert outcome.operations > 300
    assert outcome.built >= len(outcome.digests) > 1_000
    assert outcome.kills >= 4
    assert outcome.acknowledged > 40
    assert outcome.failed_hubs == 3
    assert outcome.full_points >= 8
    assert outcome.failures > outcome.sync_failures >= 35
    assert outcome.damaged == 50
    assert told
