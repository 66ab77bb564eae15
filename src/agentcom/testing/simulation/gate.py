"""What a campaign is judged by: its figures, and the planted bugs that must be caught."""

from collections.abc import Callable
from typing import Any

from agentcom.testing import usage
from agentcom.testing.simulation import campaign
from agentcom.testing.simulation.campaign import Totals
from agentcom.testing.simulation.mutants import MUTANTS

SLICE_HOURS = 0.5
"""Simulated time of one seed against a planted bug."""


def report(totals: Totals, first_seed: int, seconds: float) -> dict[str, Any]:
    """Return the figures of a campaign, as they are printed and published."""
    counts = totals.counts
    return {
        "seeds": f"{first_seed} to {first_seed + totals.runs - 1}",
        "simulated hub-hours": round(totals.hours, 1),
        "seconds": round(seconds),
        "seconds of CPU": round(usage.cpu_s()),
        "messages": counts["messages"],
        "message faults": totals.message_faults,
        "hub crashes": totals.hub_crashes,
        "violations": len(totals.failed),
        "faults survived": {
            name.removeprefix("fault: "): counts[name]
            for name in sorted(counts)
            if not name.startswith(("act: ", "refused: ", "messages", "connections"))
        },
        "invariants checked": dict(sorted(totals.checks.items())),
    }


def check_mutants(say: Callable[[str], None], *, jobs: int) -> bool:
    """Plant each bug in turn; return whether all were caught within their hours."""
    survived = []
    for mutant, caught in zip(MUTANTS, campaign.hunt(MUTANTS, SLICE_HOURS, jobs=jobs), strict=True):
        if caught.invariant:
            after = f"after {caught.hours:5.1f} h, by seed {caught.seed}"
            say(f"{mutant.name:<40} caught {after}  {caught.invariant}")
        else:
            say(f"{mutant.name:<40} SURVIVED {caught.hours:.1f} h")
            survived.append(mutant.name)
    say(f"{len(MUTANTS) - len(survived)} of {len(MUTANTS)} planted bugs were caught")
    for name in survived:
        say(f"SURVIVED {name}")
    return not survived
