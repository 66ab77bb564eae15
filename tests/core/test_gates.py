"""Gates: what a task passes, and the words for what is shut."""

import msgspec

from agentcom.core.gates import Budgeted, Claims, Files, Gates, files_of, scopes
from agentcom.core.purse import Purse
from agentcom.model.batch import budget_key
from agentcom.model.budget import Amounts, Budget, Period, ScopeBudget
from agentcom.model.ids import DEFAULT_POOL, DEFAULT_PROJECT, TaskId, WallTime
from agentcom.model.limit import Limit, Usage
from agentcom.model.task import Task
from agentcom.model.usage import DAY_MS
from tests.core.acts import Pool

WALL = WallTime(1_000_000)


def task(**fields: object) -> Task:
    world = Pool()
    (name,) = world.submit("t")
    return msgspec.structs.replace(world.task(name), **fields)


def ruled(*rules: Limit) -> Gates:
    gates = Gates(DEFAULT_POOL, Purse())
    gates.rules.update((rule.scope, rule) for rule in rules)
    return gates


def test_a_task_without_limits_passes_no_gate() -> None:
    assert Gates(DEFAULT_POOL, Purse()).gates_of(task()) == ()
    assert ruled(Limit(scope="submitter:ann", weight=2)).gates_of(task()) == ()


def test_a_task_passes_every_scope_with_a_bound_and_its_files() -> None:
    gates = ruled(Limit(scope="key:*", concurrency=1), Limit(scope="repo:r", concurrency=1))
    one = task(keys=("repo:r", "key:a"), files=("src/**",))

    claim = Files("repo:r", ("src/**",), shared=False)
    assert gates.gates_of(one) == ("repo:r", "key:a", claim, Claims("repo:r"))
    assert scopes(one) == ("project:default", "submitter:ann", "repo:r", "key:a")


def test_files_of_no_repository_have_a_place_of_their_own() -> None:
    assert files_of(task(files=("a",), keys=("key:x",))).repo == "repo:"


def test_what_is_full_says_how_much_runs() -> None:
    gates = ruled(Limit(scope="key:a", concurrency=2))
    gates.taken["key:a"] = 2

    assert gates.blocker("key:a") == ("the limit of key:a is full: 2 of 2 run", None)
    assert gates.blocker("key:b") is None


def test_a_rate_says_when_it_goes_on() -> None:
    gates = ruled(Limit(scope="key:a", rate=4, per_ms=3_600_000))
    gates.rates["key:a"] = Usage(scope="key:a", earned_at=WallTime(WALL + 3_600_000))
    gates.spent["key:a"] = None

    words = "the rate of key:a is used up: 4 starts in 1 h"
    assert gates.blocker("key:a") == (words, WALL + 900_000)


def test_odd_periods_are_told_in_seconds() -> None:
    gates = ruled(Limit(scope="key:a", rate=1, per_ms=1_500))
    gates.spent["key:a"] = None

    assert gates.blocker("key:a") == ("the rate of key:a is used up: 1 starts in 1.5 s", None)


def test_files_say_who_has_them() -> None:
    gates, mine = Gates(DEFAULT_POOL, Purse()), Files("repo:r", ("src/**",), shared=False)
    gates.files_held["repo:r"] = {
        TaskId("x"): Files("repo:r", ("src/a",), shared=True),
        TaskId("y"): Files("repo:r", ("docs/a",), shared=False),
    }

    assert gates.blocker(mine) == ("its files (src/**) are in use by x", None)
    assert gates.holders(mine) == [TaskId("x")]
    assert gates.is_open(Claims("repo:r"))


def test_a_weight_is_that_of_the_project_times_the_submitters() -> None:
    gates = ruled(Limit(scope="project:p", weight=2), Limit(scope="submitter:*", weight=3))

    assert gates.weight("p", "ann") == 6
    assert gates.weight("q", "ann") == 3
    assert Gates(DEFAULT_POOL, Purse()).weight("p", "ann") == 1


def test_a_budget_is_a_gate_for_what_needs_a_model() -> None:
    purse = Purse()
    gates, key = Gates(DEFAULT_POOL, purse), budget_key("default", "submitter:ann", Period.DAY)
    before = gates.ruled
    purse.budgets[key] = ScopeBudget(
        project=DEFAULT_PROJECT,
        scope="submitter:ann",
        period=Period.DAY,
        limits=Budget(turns=1),
        day=2,
    )
    gate = Budgeted(key)

    assert (before, gates.ruled) == (False, True)
    assert gates.gates_of(task()) == (gate,)
    assert gates.gates_of(task(landing_only=True)) == ()
    assert (gates.is_open(gate), gates.blocker(gate)) == (True, None)

    purse.budgets[key] = msgspec.structs.replace(purse.budgets[key], spent=Amounts(turns=1))

    words = "the budget of submitter:ann by the day is used up: 1 of 1 turns"
    assert gates.blocker(gate) == (words, 3 * DAY_MS)
    assert gates.is_open(Budgeted("gone"))
