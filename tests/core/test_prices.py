"""What a turn costs by a price list."""

from typing import Any

import pytest

from agentcom.core.prices import Price, Prices
from agentcom.model.ids import AgentId
from agentcom.model.usage import TurnUsage

SONNET = Price(input=3_000_000, output=15_000_000, cached=300_000, written=3_750_000)
PRICES = Prices(
    {
        "claude-sonnet-*": SONNET,
        "claude-*": Price(input=5_000_000, output=25_000_000),
        "small": Price(input=1, output=1),
    }
)


def spent(model: str = "claude-sonnet-5", **tokens: Any) -> TurnUsage:
    return TurnUsage(turn=1, agent=AgentId("bob"), model=model, **tokens)


def test_each_kind_of_token_has_its_price() -> None:
    turn = spent(input=1_000_000, cached=600_000, written=100_000, output=10_000)

    assert PRICES.cost(turn) == 900_000 + 180_000 + 375_000 + 150_000


def test_the_longest_pattern_decides() -> None:
    assert PRICES.price("claude-sonnet-5") == SONNET
    assert PRICES.cost(spent("claude-opus-5", output=1_000)) == 25_000


def test_without_a_price_of_their_own_cached_tokens_cost_as_other_input() -> None:
    turn = spent("claude-opus-5", input=1_000_000, cached=500_000, written=200_000)

    assert PRICES.cost(turn) == 5_000_000


def test_an_unknown_model_has_no_price_which_is_not_nothing() -> None:
    assert PRICES.price("unheard-of") is None
    assert PRICES.cost(spent("unheard-of", input=9)) is None
    assert Prices().cost(spent()) is None
    assert PRICES.cost(spent()) == 0


@pytest.mark.parametrize(("tokens", "micros"), [(499_999, 0), (500_000, 1), (1_499_999, 1)])
def test_a_cost_is_rounded_to_the_nearest_micro_dollar(tokens: int, micros: int) -> None:
    assert PRICES.cost(spent("small", output=tokens)) == micros


def test_more_cached_tokens_than_input_are_not_paid_back() -> None:
    assert PRICES.cost(spent(input=1, cached=1_000_000)) == 300_000
