"""What an agent asks of the hub is sent until it is answered."""

import msgspec

from agentcom.model.errors import NotAllowed, Stale
from agentcom.model.task import TaskSpec
from agentcom.protocol import frames
from agentcom.sidecar import machine_asking
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Stage
from tests.sidecar.machine_world import DONE, Machine, connected, key

SPEC = TaskSpec(title="s", prompt="p")
ASKED = values.Asked(key(), "more-1", (SPEC,))
KEY = machine_asking.request_key(ASKED)
REPLY = msgspec.Raw(b'{"type":"submitted","tasks":["t9"]}')


def sent(orders: list[values.Order]) -> list[frames.SubmitFrame]:
    found = [order.frame for order in orders if isinstance(order, values.Send)]
    return [frame for frame in found if isinstance(frame, frames.SubmitFrame)]


def answers(orders: list[values.Order]) -> list[object]:
    return [order.answer for order in orders if isinstance(order, values.Answered)]


def working() -> Machine:
    return connected().running()


def test_a_question_names_the_task_and_the_attempt() -> None:
    world = working()

    (frame,) = sent(world.take(ASKED))

    assert frame == frames.SubmitFrame(key=KEY, tasks=(SPEC,), parent=key().task, fence=key().fence)


def test_an_answer_goes_to_the_agent_once() -> None:
    world = working()
    world.take(ASKED)
    reply = frames.ReplyFrame(key=KEY, reply=REPLY)

    assert answers(world.take(reply)) == [REPLY]
    assert answers(world.take(reply)) == []


def test_a_question_is_asked_again_on_a_new_link_and_after_a_while() -> None:
    world = working()
    world.take(ASKED)

    world.take(values.Disconnected())
    asked = sent(world.connect(session=2))

    assert len(asked) == 1
    assert sent(world.take(values.TimerFired("reports"))) == asked


def test_what_the_hub_wants_later_stays_a_question_and_what_it_refuses_is_told() -> None:
    world = working()
    world.take(ASKED)
    later = frames.ErrorFrame(code="rate_limited", message="later", key=KEY, retry_after_ms=1_000)
    no = frames.ErrorFrame(code="invalid_input", message="no", key=KEY)

    assert answers(world.take(later)) == []
    assert len(sent(world.take(values.TimerFired("reports")))) == 1
    assert answers(world.take(no)) == [no]
    assert sent(world.take(values.TimerFired("reports"))) == []


def test_a_refusal_of_a_question_is_none_of_the_machine() -> None:
    world = working()
    world.take(ASKED)
    refused = frames.ErrorFrame(code=NotAllowed.code, message="no", key=KEY)

    orders = world.take(refused)

    assert not [order for order in orders if isinstance(order, values.Quit | values.Reconnect)]


def test_an_attempt_that_has_ended_asks_for_nothing() -> None:
    world = working()
    world.take(values.Ended(key(), DONE))

    (answer,) = answers(world.take(ASKED))

    assert isinstance(answer, frames.ErrorFrame)
    assert answer.code == Stale.code
    assert world.stage() is Stage.FINISHED


def test_only_so_much_is_asked_at_once() -> None:
    world = working()
    for number in range(machine_asking.ASKED_MAX):
        world.take(msgspec.structs.replace(ASKED, name=f"n{number}"))

    (answer,) = answers(world.take(ASKED))

    assert isinstance(answer, frames.ErrorFrame)
    assert answer.code == NotAllowed.code
