"""Planted bugs of the merge queue."""

from typing import Final

from agentcom.testing.simulation.planting import Mutant

LANDING: Final = (
    Mutant(
        "work lands out of order",
        "who came later is in the base first",
        "agentcom.core.merging",
        "        tuple(map(_rider, riders)) if first.land is LandPolicy.QUEUE else None,",
        "        tuple(map(_rider, riders))[::-1] if first.land is LandPolicy.QUEUE else None,",
        seed=26,
    ),
    Mutant(
        "a batch lands whose check failed",
        "the base is red",
        "agentcom.sidecar.machine_landing",
        "        if passed:\n",
        "        if passed or count > 1:\n",
        hours=120,
        among={"merges": 1.0},
    ),
    Mutant(
        "riders keep their hold",
        "a branch is locked by those who rode with a landing that is over",
        "agentcom.core.holding",
        "        _unseat(ledger, rest, key)\n",
        "",
        seed=26,
    ),
    Mutant(
        "who waits for a base loses its place at a restart",
        "work that came first lands last",
        "agentcom.core.loading",
        "    _order_landings(view)\n",
        "",
        seed=26,
    ),
)
