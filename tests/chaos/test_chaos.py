"""The fault suite in short form: real processes, a real store, and kills in the middle of work."""

from pathlib import Path

import pytest

from agentcom.sidecar import processes
from agentcom.testing.chaos import run
from agentcom.testing.chaos.lines import LineFault

pytestmark = [
    pytest.mark.skipif(not processes.has_table(), reason="looks at /proc"),
    pytest.mark.slow,
    pytest.mark.timeout(240),
]


async def test_a_fleet_keeps_its_promises_while_all_of_it_is_killed(tmp_path: Path) -> None:
    plan = run.Plan(kills=25, seed=11, seconds_max=90, silence_every=9)

    outcome = await run.run(tmp_path, plan, print)

    assert outcome.problems == []
    assert outcome.hub_kills >= 10  # all 25 on a machine that is not overloaded
    assert {it.name: it.violations for it in outcome.checked}["no acknowledged task is lost"] == 0
    numbers = {it.number for it in outcome.checked if it.checks}
    assert numbers >= {"I1", "I3", "I4", "I8", "I14", "I15", "I21", "I22"}
    assert sum(dict(outcome.faults)[kind] for kind in LineFault) >= 10
