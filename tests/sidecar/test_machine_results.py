"""Results and checkpoints: stored, sent, repeated, and acknowledged once."""

from agentcom.model.ids import Fence
from agentcom.model.result import ReportKind
from agentcom.protocol import frames
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Stage
from tests.sidecar.machine_frames import ACK, F1, GRANT, STALE, finished
from tests.sidecar.machine_world import (
    COMMIT,
    DONE,
    LANDED,
    LANDS,
    T1,
    Machine,
    assign,
    connected,
    key,
    record,
)

SAVED = frames.Ack(task=T1, fence=F1, of=ReportKind.CHECKPOINT, commit=COMMIT)


def test_a_result_is_stored_before_it_is_sent() -> None:
    made = Machine(disk=False)
    made.connect()
    made.take(assign(), values.Stored(key(), Stage.PREPARING))

    ended = made.take(values.Ended(key(), DONE))
    stored = made.take(values.Stored(key(), Stage.FINISHED))

    assert not [order for order in ended if isinstance(order, values.Send)]
    finish = values.Send(frames.Finish(task=T1, fence=F1, result=DONE))
    assert finish in stored


def test_a_result_that_cannot_be_stored_is_sent_all_the_same_and_stored_later() -> None:
    made = finished()
    made.take(values.NotStored(key(), Stage.FINISHED, "the disk is full"))

    assert frames.Finish(task=T1, fence=F1, result=DONE) in made.sent()
    assert values.Store(made.view.attempts[key()].record) in made.take(
        values.TimerFired(key().text)
    )


def test_a_result_of_an_absent_hub_is_sent_at_the_next_welcome() -> None:
    made = connected().running()
    made.take(values.Disconnected())

    made.take(values.Ended(key(), DONE))
    before = made.sent()
    made.connect(2)

    assert not before
    assert frames.Finish(task=T1, fence=F1, result=DONE) in made.sent()


def test_a_result_is_repeated_on_every_link_until_it_is_acknowledged() -> None:
    made = finished()
    made.connect(2)
    repeated = made.sent()
    made.take(ACK)
    made.connect(3)

    finish = frames.Finish(task=T1, fence=F1, result=DONE)
    assert finish in repeated
    assert finish not in made.sent()
    assert made.stage() is None


def test_a_result_without_an_answer_is_repeated_on_the_same_link() -> None:
    made = finished()

    made.take(values.TimerFired("reports"))

    assert made.sent() == [frames.Finish(task=T1, fence=F1, result=DONE)]


def test_an_acknowledged_checkpoint_is_not_taken_for_an_acknowledged_result() -> None:
    made = connected().running()
    made.take(values.Saved(key(), COMMIT), values.Ended(key(), DONE))

    made.take(SAVED, SAVED)
    doubled = made.stage()
    made.take(ACK)

    assert doubled is Stage.FINISHED
    assert made.stage() is None


def test_the_acknowledgement_of_an_older_checkpoint_leaves_the_newest_to_be_sent() -> None:
    made = connected().running()
    made.take(values.Saved(key(), COMMIT), values.Saved(key(), "b" * 40), SAVED)

    made.connect(2)

    assert frames.Checkpoint(task=T1, fence=F1, commit="b" * 40) in made.sent()


def test_a_stale_checkpoint_is_answered_by_a_stop_and_not_sent_again() -> None:
    made = connected().running()
    made.take(values.Saved(key(), COMMIT), STALE)

    made.connect(2)

    assert frames.Checkpoint(task=T1, fence=F1, commit=COMMIT) not in made.sent()


def test_the_newest_checkpoint_is_sent_again_until_it_is_acknowledged() -> None:
    made = connected().running()
    made.take(values.Saved(key(), COMMIT))
    made.connect(2)
    again = made.sent()
    made.take(SAVED)
    made.connect(3)

    checkpoint = frames.Checkpoint(task=T1, fence=F1, commit=COMMIT)
    assert checkpoint in again
    assert checkpoint not in made.sent()


def test_a_notice_goes_to_an_attempt_that_runs_and_to_no_other() -> None:
    made = connected().running()
    notice = frames.Notice(task=T1, fence=F1, text="also touches a")

    assert values.Notify(key(), "also touches a") in made.take(notice)
    made.take(values.Ended(key(), DONE))
    assert made.take(notice) == []
    assert made.take(frames.Notice(task=T1, fence=Fence(7, 9), text="x")) == []


def test_a_checkpoint_says_what_the_agent_said_and_what_it_changed() -> None:
    made = connected().running()

    made.take(values.Saved(key(), COMMIT, "s1", "half done", ("a", "b"), 2))

    saved = frames.Checkpoint(
        task=T1,
        fence=F1,
        commit=COMMIT,
        session="s1",
        note="half done",
        touched=("a", "b"),
        touched_count=2,
    )
    assert saved in made.sent()


def test_a_second_acknowledgement_of_a_result_does_not_drop_the_landing() -> None:
    made = finished(LANDS)
    made.take(values.TimerFired("reports"), ACK, GRANT, values.LandEnded(key(), LANDED))

    made.take(ACK)
    kept = made.stage()
    made.take(frames.Ack(task=T1, fence=F1, of=ReportKind.LANDED))

    assert kept is Stage.LANDED
    assert made.stage() is None


def test_a_kept_result_is_forgotten_with_its_record_kept() -> None:
    made = finished(LANDS)

    made.take(frames.Ack(task=T1, fence=F1, of=ReportKind.FINISH, applied=False, code="stale"))

    assert made.ordered(values.Forget) == [
        values.Forget(record(stage=Stage.FINISHED, result=LANDS))
    ]
