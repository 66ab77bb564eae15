"""Turns of a run: numbered by its output alone, and none of its tokens is left out."""

from agentcom.model.ids import AgentId
from agentcom.model.limits import TURNS_MAX
from agentcom.model.usage import TurnUsage
from agentcom.sidecar.runtime.base import Usage
from agentcom.sidecar.turns import Turns

BOB = AgentId("bob")


def turns(**settings: str) -> Turns:
    return Turns(BOB, "claude", settings)


def test_each_turn_has_its_number_model_and_time() -> None:
    run = turns(model="set")
    run.begin(10.0)

    first = run.ended(Usage(input=5, cached=2, output=1, written=3), 11.5)
    second = run.ended(Usage(output=1, model="named"), 11.6)

    assert first == TurnUsage(
        turn=1,
        agent=BOB,
        model="set",
        runtime="claude",
        input=5,
        cached=2,
        written=3,
        output=1,
        wall_ms=1_500,
    )
    assert second is not None
    assert (second.turn, second.model, second.wall_ms) == (2, "named", 99)


def test_a_turn_that_cost_nothing_is_none() -> None:
    assert turns().ended(Usage(), 1.0) is None
    assert turns().rest(Usage(), 1.0) is None


def test_what_no_turn_told_is_one_turn_more() -> None:
    run = turns()
    run.ended(Usage(input=10, output=2), 1.0)

    rest = run.rest(Usage(input=15, cached=4, output=1, model="m"), 2.0)

    assert rest is not None
    assert (rest.turn, rest.input, rest.cached, rest.output, rest.model) == (2, 5, 4, 0, "m")
    assert run.rest(Usage(input=15, cached=4, output=1), 3.0) is None


def test_a_subscription_pays_for_what_it_includes() -> None:
    included = turns(billing="included").ended(Usage(output=1), 1.0)
    metered = turns(billing="metered").ended(Usage(output=1), 1.0)

    assert included is not None
    assert metered is not None
    assert (included.included, metered.included) == (True, False)


def test_beyond_the_bound_all_turns_are_one() -> None:
    run = turns()
    told = [run.ended(Usage(output=1), 1.0) for _ in range(TURNS_MAX + 10)]

    rest = run.rest(Usage(output=TURNS_MAX + 10), 2.0)

    assert sum(turn is not None for turn in told) == TURNS_MAX - 1
    assert rest is not None
    assert (rest.turn, rest.output) == (TURNS_MAX, 11)
