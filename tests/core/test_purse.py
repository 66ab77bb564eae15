"""What a pool knows of budgets, and when one gives nothing."""

import msgspec

from agentcom.core.purse import ESTIMATE, Purse, named
from agentcom.model.batch import budget_key
from agentcom.model.budget import Amounts, Budget, Period, ScopeBudget
from agentcom.model.ids import DEFAULT_PROJECT
from agentcom.model.usage import DAY_MS
from tests.core.acts import Pool

SCOPE = "project:default"
TOTAL = budget_key(DEFAULT_PROJECT, SCOPE, Period.TOTAL)
DAY = budget_key(DEFAULT_PROJECT, SCOPE, Period.DAY)


def purse(limits: Budget, *, spent: Amounts = Amounts(), per: Period = Period.TOTAL) -> Purse:  # noqa: B008
    row = ScopeBudget(
        project=DEFAULT_PROJECT, scope=SCOPE, period=per, limits=limits, spent=spent, day=4
    )
    return Purse(budgets={budget_key(DEFAULT_PROJECT, SCOPE, per): row})


def test_only_budgets_that_exist_have_keys_the_days_first() -> None:
    both = purse(Budget(turns=1))
    both.budgets |= purse(Budget(turns=1), per=Period.DAY).budgets

    assert both.keys(DEFAULT_PROJECT, ("submitter:ann", SCOPE)) == (DAY, TOTAL)
    assert Purse().keys(DEFAULT_PROJECT, (SCOPE,)) == ()


def test_a_task_without_a_model_spends_from_no_budget() -> None:
    world = Pool()
    task = world.task(world.submit("t")[0])
    own = purse(Budget(turns=1))

    assert own.scopes(task) == (TOTAL,)
    assert own.scopes(msgspec.structs.replace(task, landing_only=True)) == ()
    assert own.scopes(msgspec.structs.replace(task, needs=())) == ()
    assert Purse().scopes(task) == ()


def test_a_budget_gives_as_long_as_something_is_left_reservations_counted() -> None:
    own = purse(Budget(tokens=2 * ESTIMATE.tokens))
    assert own.lacks(TOTAL) is None

    own.reserved[TOTAL] = 1
    assert own.lacks(TOTAL) is None
    own.reserved[TOTAL] = 2

    words = own.lacks(TOTAL) or ""
    assert words.startswith("the budget of project:default in all is reserved for 2 running")
    assert own.opens_at(TOTAL) is None
    assert own.lacks("gone") is None


def test_a_day_that_is_spent_is_renewed_with_the_next() -> None:
    spent = purse(Budget(turns=1), spent=Amounts(turns=1), per=Period.DAY)

    assert named(spent.budgets[DAY]) == "project:default by the day"
    assert (spent.lacks(DAY) or "").endswith("is used up: 1 of 1 turns")
    assert spent.opens_at(DAY) == 5 * DAY_MS
    assert purse(Budget(turns=1), spent=Amounts(turns=1)).opens_at(TOTAL) is None
