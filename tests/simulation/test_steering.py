"""What an operator does in a simulation: it is done, and it is looked at."""

import msgspec

from agentcom.testing.simulation.kernel import MINUTE
from agentcom.testing.simulation.options import draw
from agentcom.testing.simulation.run import simulate

LOOKED_AT = ("nothing is issued in a paused scope", "no paused task is issued", "I16 order is kept")


def test_pauses_edits_and_acts_on_many_break_no_promise() -> None:
    drawn = draw(4, 0.3)
    options = msgspec.structs.replace(drawn, every_us={**drawn.every_us, "operator": MINUTE})

    outcome = simulate(options)

    assert outcome.failure is None, outcome.failure
    assert outcome.counts["act: operator"] > 0
    assert all(outcome.checks[name] > 0 for name in LOOKED_AT)
