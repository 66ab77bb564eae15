"""Requests under a key, and what a repeat gets."""

import msgspec
import pytest

from agentcom.core import facts
from agentcom.core.effects import Acknowledge, Refuse
from agentcom.core.facts import Fact
from agentcom.model.errors import InvalidInput, KeyReused
from agentcom.model.ids import TaskId
from agentcom.model.limits import REQUEST_KEY_CHARS, REQUEST_KEY_KEEP_MS
from agentcom.model.replies import Submitted
from agentcom.model.result import Landing, LandStatus
from agentcom.model.task import Task, TaskSpec
from agentcom.testing.world import machine, person
from tests.core.acts import Pool

ONE = facts.Submit((TaskSpec(title="one", prompt="p"),))
TWO = facts.Submit((TaskSpec(title="two", prompt="p"),))


def request(body: facts.Body, ticket: int, *, key: str = "k", by: str = "ann") -> Fact:
    return Fact(body=body, actor=person(by), reply_to=ticket, key=key, payload=repr(body))


def test_a_repeated_request_gets_its_first_answer_and_makes_nothing_new() -> None:
    world = Pool()

    assert world.submit("t", key="k") == world.submit("t", key="k")

    assert len(world.view.tasks) == 1


def test_a_repeated_request_is_known_after_a_restart() -> None:
    world = Pool()
    first = world.submit("t", key="k")
    world.restart()

    assert world.submit("t", key="k") == first
    with pytest.raises(KeyReused):
        world.submit("other", key="k")


def test_a_request_that_is_repeated_in_one_batch_is_answered_twice_and_done_once() -> None:
    world = Pool()

    world.decide([request(ONE, 1), request(ONE, 2), request(TWO, 3)])

    assert world.replies[1] == world.replies[2]
    assert isinstance(world.replies[1], msgspec.Raw)
    assert isinstance(world.replies[3], KeyReused)
    assert len(world.view.tasks) == 1


def test_two_submitters_may_use_one_key() -> None:
    world = Pool()

    assert world.submit("t", by="ann", key="k") != world.submit("t", by="bob", key="k")


def test_a_refused_request_does_not_use_up_its_key() -> None:
    world = Pool()
    with pytest.raises(InvalidInput):
        world.submit("", key="k")

    assert world.submit("t", key="k")


def test_a_request_key_is_kept_for_a_while_even_if_nobody_waits() -> None:
    world = Pool()

    world.decide([Fact(body=ONE, actor=person("ann"), key="k")])

    (record,) = [row for (table, _), row in world.rows.items() if table == "request"]
    assert record.expires_at == world.now.wall + REQUEST_KEY_KEEP_MS  # type: ignore[union-attr]  # a request


@pytest.mark.parametrize("key", ["k" * (REQUEST_KEY_CHARS + 1), "a\0b"])
def test_a_request_key_is_bounded(key: str) -> None:
    with pytest.raises(InvalidInput, match="key"):
        Pool().submit("t", key=key)


def test_submits_of_one_batch_are_told_apart() -> None:
    world = Pool()

    world.decide([request(ONE, 1, key="a"), request(TWO, 2, key="b")])

    replies = [msgspec.json.decode(bytes(world.replies[n]), type=Submitted) for n in (1, 2)]  # type: ignore[arg-type]  # raw
    assert replies[0].tasks != replies[1].tasks


def test_a_long_answer_is_repeated_from_the_store_and_within_one_batch() -> None:
    world = Pool()
    specs = tuple(TaskSpec(title=f"t{n}", prompt="p") for n in range(50))
    body = facts.Submit(specs)
    first, second, third = [
        Fact(body=body, actor=person("ann"), key="k", payload="h", reply_to=n) for n in (1, 2, 3)
    ]

    world.decide([first, second])
    world.decide([third])

    assert len(world.view.requests) == 0
    answers = [world.replies[n] for n in (1, 2, 3)]
    assert len({bytes(raw) for raw in answers if isinstance(raw, msgspec.Raw)}) == 1
    assert sum(isinstance(row, Task) for row in world.rows.values()) == len(specs)


def test_a_refusal_reaches_who_asked_and_a_machine_whose_report_it_is() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    bad = facts.Landed(task, fence, Landing(status=LandStatus.LANDED))

    effects = world.decide([Fact(body=bad, actor=machine("m1"), reply_to=7)])

    assert [effect.ticket for effect in effects if isinstance(effect, Refuse)] == [7]
    assert [effect.code for effect in effects if isinstance(effect, Acknowledge)] == ["stale"]


def test_a_refusal_that_nobody_waits_for_is_told_to_nobody() -> None:
    world = Pool()
    cancel = facts.Cancel(TaskId("none"))

    assert world.decide([Fact(body=cancel, actor=person("ann"))]) == []
