"""What a campaign is judged by: its figures, and the planted bugs that must be caught."""

from collections.abc import Callable
from typing import Any

from agentcom.testing import usage
from agentcom.testing.simulation import campaign
from agentcom.testing.simulation.campaign import Totals
from agentcom.testing.simulation.mutants import MUTANTS
from agentcom.testing.simulation.planting import Mutant

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
    survived = [mutant.name for mutant in MUTANTS if not _is_caught(mutant, say, jobs)]
    say(f"{len(MUTANTS) - len(survived)} of {len(MUTANTS)} planted bugs were caught")
    for name in survived:
        say(f"SURVIVED {name}")
    return not survived


def _is_caught(mutant: Mutant, say: Callable[[str], None], jobs: int) -> bool:
    hours = 0.0
    seeds = range(1, 1 + int(mutant.hours / SLICE_HOURS))
    runs = campaign.run(
        seeds,
        SLICE_HOURS,
        jobs=jobs,
        mutant=mutant.name,
        often=mutant.often,
        among=mutant.among,
    )
    for outcome in runs:
        hours += outcome.hours
        if outcome.failure is not None:
            runs.close()
            say(f"{mutant.name:<40} caught after {hours:5.1f} h  {outcome.failure.invariant}")
            return True
    say(f"{mutant.name:<40} SURVIVED {hours:.1f} h")
    return False
