"""The simulation itself: it repeats, it holds, it finds what is planted, and makes it small."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from agentcom.hub import faults
from agentcom.testing.simulation import campaign, mutants, planting, shrink
from agentcom.testing.simulation.kernel import MINUTE
from agentcom.testing.simulation.options import Options, draw
from agentcom.testing.simulation.run import Outcome, simulate

SHORT = 0.1
CALM = Options(seed=7, hours=SHORT, agent_fails=0, agent_crashes=0, agent_hangs=0, quota=0)

REPEATED = """
import sys
from agentcom.testing.simulation.options import draw
from agentcom.testing.simulation.run import simulate
outcome = simulate(draw(int(sys.argv[1]), 0.1))
print(outcome.digest, outcome.steps, sorted(outcome.counts.items()))
"""


def repeated(seed: int, hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", REPEATED, str(seed)]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    return done.stdout


def told(outcome: Outcome) -> str:
    """Return what failed, to be seen in a report."""
    failure = outcome.failure
    return "" if failure is None else f"{failure.invariant}: {failure.detail}"


@pytest.mark.parametrize("seed", [3, 12])
def test_a_seed_repeats_exactly_whatever_the_hash_seed_is(seed: int) -> None:
    first = repeated(seed, "0")

    assert first == repeated(seed, "4711")
    assert first != repeated(seed + 1, "0")


def test_without_faults_work_gets_done_and_every_promise_is_looked_at() -> None:
    outcome = simulate(CALM)

    assert told(outcome) == ""
    assert outcome.checks["I1 no acknowledged task is lost"] > 0
    assert outcome.checks["assign and complete are linearizable"] == 1
    assert not [name for name in outcome.counts if name.startswith("fault: ")]


def test_without_faults_every_planned_time_of_a_schedule_has_its_run() -> None:
    outcome = simulate(CALM)

    assert outcome.counts["schedule runs"] >= 3  # by three schedules in six minutes
    assert outcome.checks["a planned time has its run"] >= 3
    assert outcome.checks["a planned time runs at most once"] > 0


def test_agents_and_people_get_what_is_written_to_them() -> None:
    outcome = simulate(msgspec.structs.replace(draw(22, SHORT), mail=True))

    assert told(outcome) == ""
    assert outcome.counts["mail: got"] > 20
    for name in ("a mailbox has no gaps", "mail comes in order", "what was sent is stored"):
        assert outcome.checks[name] > 10


def test_posts_keep_their_places_and_are_seen_by_members_only() -> None:
    outcome = simulate(msgspec.structs.replace(draw(22, SHORT), channels=True, people=3))

    assert told(outcome) == ""
    assert outcome.counts["channels: read"] > 20
    for name in ("a channel has no gaps", "posts come in order, without a gap"):
        assert outcome.checks[name] > 10
    assert outcome.checks["who is no member sees nothing"] > 0


@pytest.mark.parametrize("seed", range(20, 26))
def test_seeds_with_faults_hold(seed: int) -> None:
    outcome = simulate(draw(seed, SHORT))

    assert told(outcome) == ""


def test_every_fault_of_the_network_and_the_disk_happens() -> None:
    wild = msgspec.structs.replace(
        draw(21, SHORT), lossy=True, drop=0.1, double=0.1, spike=0.1, full=0.05, conflict=0.05,
        unknown=0.05, slow=0.05, buggify=0.05, sync_us=900_000, sync_fails=0.002,
        every_us=dict.fromkeys(("hub_crash", "partition", "swizzle", "forgery", "restore"), MINUTE),
    )  # fmt: skip

    outcome = simulate(wild)

    assert told(outcome) == ""
    for name in ("dropped", "doubled", "delayed"):
        assert outcome.counts[f"fault: {name}"] > 0, name
    assert any(name.startswith("fault: batch") for name in outcome.counts)
    assert outcome.counts["restores"] > 0
    assert any(name.startswith("point: ") for name in outcome.counts)


def test_the_fault_points_of_a_hub_are_false_outside_a_simulation() -> None:
    simulate(msgspec.structs.replace(CALM, hours=0.01, buggify=0.5))

    assert faults.chance is None
    assert not faults.point("engine: forget everything")


# Planted bugs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_each_planted_bug_can_be_planted(mutant: planting.Mutant) -> None:
    for change in mutant.changes:
        assert change.new in planting.changed(change)


def test_there_are_enough_planted_bugs_and_each_has_a_name() -> None:
    assert len({mutant.name for mutant in mutants.MUTANTS}) == len(mutants.MUTANTS) >= 25


def test_a_bug_whose_place_has_changed_is_told() -> None:
    gone = planting.Mutant("gone", "nothing", "agentcom.core.pool", "no such text", "")

    with pytest.raises(planting.NotPlanted, match="0 times"):
        planting.changed(*gone.changes)


def test_a_module_that_is_imported_already_is_not_planted() -> None:
    with pytest.raises(planting.NotPlanted, match="imported already"):
        planting.plant(mutants.by_name("no fence"))


def test_a_planted_bug_is_caught_and_the_run_made_smaller() -> None:
    options = draw(3, 0.5)

    found = campaign.replay(options, mutant="a repeat is stale")
    small = campaign.replay(options, mutant="a repeat is stale", smaller=True)

    assert found.failure is not None
    assert small.failure is not None
    assert small.failure.invariant == found.failure.invariant
    assert len(small.options.every_us) < len(options.every_us)
    assert len(small.acts) <= len(found.acts)
    assert shrink.story(small.failure)
    again = msgspec.json.decode(msgspec.json.encode(small.options), type=Options)
    assert campaign.replay(again, mutant="a repeat is stale").digest == small.digest


def test_the_product_without_a_bug_holds_where_the_bug_was_found() -> None:
    assert told(campaign.replay(draw(3, 0.5))) == ""


def test_a_campaign_adds_its_runs_up() -> None:
    totals = campaign.Totals()
    for outcome in campaign.run(range(1, 4), 0.05, jobs=2):
        totals.add(outcome)

    assert totals.runs == 3
    assert totals.hours > 0.15
    assert not totals.failed


def test_the_command_prints_what_was_survived(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    words = ["--seeds", "2", "--hours", "0.02", "--jobs", "2", "--json", str(figures)]
    command = [str(Path(sys.executable).with_name("agentcom")), "simulate", *words]

    done = subprocess.run(command, capture_output=True, check=True, text=True)

    assert json.loads(figures.read_text())["violations"] == 0
    assert "simulated hub-hours" in done.stdout
