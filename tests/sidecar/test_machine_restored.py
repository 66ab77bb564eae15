"""A hub that was restored may lack what it had acknowledged: it is offered once more."""

from agentcom.model.ids import Instant, TaskId
from agentcom.model.result import ReportKind
from agentcom.protocol import frames
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Stage
from tests.sidecar.machine_world import (
    DONE,
    LANDED,
    LANDS,
    T1,
    T2,
    Machine,
    assign,
    connected,
    key,
    record,
    welcome,
)

KEPT = values.Kept(
    (
        record(T2, stage=Stage.FINISHED, result=DONE),
        record(attempt=2, stage=Stage.LANDED, result=DONE),
    )
)


def restored() -> Machine:
    """Return a machine whose hub comes back with a higher incarnation."""
    made = Machine(incarnation=7)
    made.take(values.Connected(), welcome(1, incarnation=8))
    return made


def acknowledged(task: TaskId = T1, attempt: int = 1, *, applied: bool = True) -> frames.Ack:
    fence = key(task, attempt).fence
    return frames.Ack(task=task, fence=fence, of=ReportKind.FINISH, applied=applied)


def test_the_first_hub_is_remembered_and_offered_nothing() -> None:
    made = Machine(incarnation=0)

    made.take(values.Connected(), welcome(1, incarnation=7))

    assert made.ordered(values.Offer) == []
    assert made.ordered(values.Remember) == [values.Remember(7)]


def test_a_hub_that_only_restarted_is_offered_nothing() -> None:
    made = connected()

    assert made.ordered(values.Offer) == made.ordered(values.Remember) == []


def test_a_restored_hub_is_offered_what_was_kept_in_order() -> None:
    made = restored()
    assert made.ordered(values.Offer) == [values.Offer()]

    made.take(KEPT)

    assert made.sent() == [
        frames.Finish(task=T2, fence=key(T2).fence, result=DONE),
        frames.Finish(task=key().task, fence=key(attempt=2).fence, result=DONE),
    ]


def test_what_has_no_result_or_is_reported_anyway_is_not_offered() -> None:
    made = restored()
    made.take(assign())
    landed = record(T2, stage=Stage.LANDED)
    bare = values.Record(
        assignment=landed.assignment, body=landed.body, stage=Stage.LANDED, landing=LANDED
    )

    made.take(values.Kept((record(result=DONE), bare)))

    assert [frame for frame in made.sent() if isinstance(frame, frames.Finish)] == []


def test_a_machine_whose_lease_ran_out_offers_before_it_says_what_it_holds() -> None:
    made = connected().running()
    made.take(values.Disconnected())
    made.after(60_000)
    made.take(values.Connected(), welcome(2, incarnation=8))
    assert not any(isinstance(frame, frames.HeartbeatFrame) for frame in made.sent())

    made.take(KEPT)

    kinds = [type(frame) for frame in made.sent()]
    assert kinds == [frames.Finish, frames.Finish, frames.HeartbeatFrame]


def test_the_offer_is_over_when_every_result_is_acknowledged() -> None:
    made = restored()
    made.take(KEPT)

    made.take(acknowledged(T2, applied=False), values.TimerFired("heartbeat"), frames.Beat(n=1))
    assert made.ordered(values.Remember) == []
    made.take(acknowledged(attempt=2))

    assert made.last[0] == values.Remember(8)
    made.take(values.Disconnected(), values.Connected(), welcome(2, incarnation=8))
    assert made.ordered(values.Offer) == []


def test_a_hub_is_remembered_at_once_if_nothing_was_kept_for_it() -> None:
    made = restored()

    made.take(values.Kept(()))

    assert made.last[0] == values.Remember(8)


def test_what_of_an_offer_has_no_answer_is_offered_again_after_a_while() -> None:
    made = restored()
    made.take(KEPT)
    assert values.SetTimer("offers", Instant(made.now + 15_000)) in made.last
    made.take(acknowledged(T2))

    made.take(values.TimerFired("offers"))
    assert made.last == [values.Offer()]
    made.take(KEPT)

    assert made.sent() == [frames.Finish(task=key().task, fence=key(attempt=2).fence, result=DONE)]
    made.take(acknowledged(attempt=2), values.TimerFired("offers"))
    assert made.last[0] == values.Remember(8)


def test_what_still_waits_to_land_is_offered_as_well() -> None:
    made = connected().running()
    made.take(values.Ended(key(), LANDS), acknowledged())
    made.take(values.Disconnected(), values.Connected(), welcome(2, incarnation=8))

    made.take(values.Kept(()))

    assert made.sent() == [frames.Finish(task=key().task, fence=key().fence, result=LANDS)]
    made.take(acknowledged())
    assert made.last[0] == values.Remember(8)
    assert made.stage() is Stage.READY


def test_an_offer_that_was_cut_off_is_made_again() -> None:
    made = restored()
    made.take(KEPT, values.Disconnected())

    made.take(values.Connected(), welcome(2, incarnation=8))

    assert made.ordered(values.Offer) == [values.Offer()]


def test_results_that_are_read_after_the_link_was_lost_wait_for_the_next() -> None:
    made = restored()
    made.take(values.Disconnected())

    made.take(KEPT)

    assert made.sent() == []
