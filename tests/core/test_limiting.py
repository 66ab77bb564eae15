"""Limits as people set them."""

import pytest

from agentcom.core import facts
from agentcom.model import limits
from agentcom.model.batch import Table
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.limit import Limit
from agentcom.model.replies import Done
from tests.core.acts import Pool


def test_a_limit_is_stored_replaced_and_dropped() -> None:
    world = Pool()

    assert world.ask(facts.SetLimit(Limit(scope="key:a", concurrency=1))) == Done("key:a")
    world.ask(facts.SetLimit(Limit(scope="key:a", concurrency=3)))
    row = world.rows[Table.RULE, "key:a"]
    assert (row.concurrency, row.version) == (3, 2)  # type: ignore[union-attr]  # a limit
    assert world.ask(facts.DropLimit("key:a")) == Done("key:a")

    assert (Table.RULE, "key:a") not in world.rows
    with pytest.raises(NotFound, match="key:a"):
        world.ask(facts.DropLimit("key:a"))


@pytest.mark.parametrize(
    "bad",
    [
        Limit(scope="key"),
        Limit(scope="nothing:x", concurrency=1),
        Limit(scope="key:", concurrency=1),
        Limit(scope="key:a\n", concurrency=1),
        Limit(scope="key:a"),
        Limit(scope="key:a", concurrency=-1),
        Limit(scope="key:a", rate=1),
        Limit(scope="key:a", per_ms=1_000),
        Limit(scope="key:a", rate=0, per_ms=1_000),
        Limit(scope="key:a", rate=1, per_ms=1),
        Limit(scope="key:a", weight=2),
        Limit(scope="project:a", weight=0),
    ],
)
def test_a_limit_without_sense_is_refused(bad: Limit) -> None:
    world = Pool()
    with pytest.raises(InvalidInput):
        world.ask(facts.SetLimit(bad))

    assert world.rows == {}


def test_the_number_of_limits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RULES_MAX", 1)
    world = Pool()
    world.ask(facts.SetLimit(Limit(scope="key:a", concurrency=1)))

    with pytest.raises(InvalidInput, match="at most 1"):
        world.ask(facts.SetLimit(Limit(scope="key:b", concurrency=1)))
    world.ask(facts.SetLimit(Limit(scope="key:a", concurrency=2)))


def test_a_heavier_submitter_gets_its_share() -> None:
    world = Pool()
    world.ask(facts.SetLimit(Limit(scope="submitter:bob", weight=3)))
    world.submit(*["a"] * 40, by="ann")
    world.submit(*["b"] * 40, by="bob")

    first = sorted(world.view.tasks.values(), key=lambda t: (t.start_tag, t.seq))[:40]
    assert sum(task.submitter == "bob" for task in first) == pytest.approx(30, abs=2)
