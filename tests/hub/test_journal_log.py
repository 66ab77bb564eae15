"""What is committed is told once in the log, counted, and shown to those who follow."""

from collections.abc import Sequence

from structlog.testing import capture_logs

from agentcom.hub.clock import SystemClock
from agentcom.hub.journal_log import LINES, OMITTED, JournalLog
from agentcom.model.batch import Append
from agentcom.model.event import EventKind, TaskEvent, task_log
from agentcom.model.ids import AgentId, Instant, MachineId, Now, TaskId, WallTime
from agentcom.model.task import TaskState
from agentcom.telemetry.metrics import Metrics

TASK = TaskId("t1")


class Followers:
    """Takes note of what is published."""

    def __init__(self) -> None:
        self.got: list[tuple[int, int]] = []

    def publish(self, first: int, appends: Sequence[Append]) -> None:
        self.got.append((first, len(appends)))


def record(kind: EventKind, state: TaskState, at: int, detail: str | None = None) -> Append:
    event = TaskEvent(
        kind=kind,
        task=TASK,
        state=state,
        at=WallTime(at),
        cause="c1",
        attempt=1,
        agent=AgentId("ada"),
        machine=MachineId("box"),
        detail=detail,
    )
    return Append(task_log(TASK), event)


LIFE = (
    record(EventKind.SUBMITTED, TaskState.QUEUED, 1_000),
    record(EventKind.ASSIGNED, TaskState.ASSIGNED, 3_000),
    record(EventKind.ACCEPTED, TaskState.RUNNING, 3_100),
    record(EventKind.COMPLETED, TaskState.COMPLETED, 9_000, detail="what the agent wrote"),
)


def test_every_record_is_one_line_with_its_cause() -> None:
    with capture_logs() as lines:
        JournalLog(Followers(), Metrics(), SystemClock()).publish(1, LIFE)

    assert [line["event"] for line in lines] == [
        "task.submitted",
        "task.assigned",
        "task.accepted",
        "task.completed",
    ]
    assert {(line["cause"], line["task"], line["attempt"], line["agent"]) for line in lines} == {
        ("c1", "t1", 1, "ada")
    }


def test_what_people_or_agents_wrote_is_not_logged() -> None:
    with capture_logs() as lines:
        JournalLog(Followers(), Metrics(), SystemClock()).publish(1, LIFE)

    assert "what the agent wrote" not in str(lines)


def test_ends_and_the_wait_in_the_queue_are_measured() -> None:
    metrics = Metrics()
    journal = JournalLog(Followers(), metrics, SystemClock())

    journal.publish(1, LIFE)

    text = metrics.render().decode()
    assert journal.ended == {"completed": 1, "failed": 0, "cancelled": 0}
    assert "agentcom_dispatch_seconds_sum 2.0" in text
    assert 'agentcom_tasks_ended_total{state="completed"} 1.0' in text


def test_followers_get_what_was_told() -> None:
    followers = Followers()

    JournalLog(followers, Metrics(), SystemClock()).publish(7, LIFE)

    assert followers.got == [(7, 4)]


class StoppedClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.instant = 0

    def now(self) -> Now:
        return Now(Instant(self.instant), WallTime(self.instant))


def test_lines_that_would_cost_too_much_are_counted_instead() -> None:
    clock = StoppedClock()
    journal = JournalLog(Followers(), Metrics(), clock)

    with capture_logs() as lines:
        for number in range(LINES.burst):
            journal.publish(number * len(LIFE), LIFE)
        clock.instant += 10_000
        journal.publish(0, LIFE[:1])

    omitted = [line for line in lines if line["event"] == OMITTED]
    each = LINES.burst * 3 // 4
    assert len(lines) == LINES.burst + 2
    assert [(line["submitted"], line["completed"]) for line in omitted] == [(each, each)]
