"""A task's feed becomes one trace: its parts lie inside each other and say what was spent."""

from agentcom.hub import spans
from agentcom.model.event import EventKind, TaskEvent
from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId, Fence, MachineId, ProjectId, TaskId, UserId, WallTime
from agentcom.model.task import Phase, TaskState, Wait
from agentcom.model.usage import Usage
from agentcom.telemetry import trace_ids

TASK = TaskId("t1")
ADA, BOB = AgentId("ada"), AgentId("bob")
K, S = EventKind, TaskState


def event(kind: EventKind, state: TaskState, at: int, **fields: object) -> TaskEvent:
    return TaskEvent(kind=kind, task=TASK, state=state, at=WallTime(at), cause="c1", **fields)  # type: ignore[arg-type] # by name


def held(kind: EventKind, at: int, phase: Phase | None, attempt: int = 1) -> TaskEvent:
    state = S.ASSIGNED if kind is K.ASSIGNED else S.RUNNING
    agent, machine = (ADA, BOB)[attempt - 1], MachineId("box")
    return event(kind, state, at, phase=phase, attempt=attempt, agent=agent, machine=machine)


def turn(number: int, at: int, wall_ms: int, attempt: int = 1) -> Usage:
    return Usage(
        task=TASK,
        fence=Fence(7, attempt),
        turn=number,
        project=ProjectId("p"),
        submitter=UserId("eve"),
        agent=ADA,
        model="claude-sonnet-4-5",
        runtime="claude",
        input=100,
        cached=60,
        output=20,
        cost_micros=1_500,
        wall_ms=wall_ms,
        at=WallTime(at),
        day=0,
    )


LIFE = (
    event(K.SUBMITTED, S.WAITING, 1_000, wait=Wait.DEPENDENCIES),
    event(K.UNBLOCKED, S.QUEUED, 2_000),
    held(K.ASSIGNED, 3_000, None),
    held(K.ACCEPTED, 3_100, Phase.PREPARING),
    held(K.PHASE, 4_000, Phase.WORKING),
    event(K.CHARGED, S.RUNNING, 5_000, attempt=1, agent=ADA, phase=Phase.WORKING),
    held(K.PHASE, 9_000, Phase.VERIFYING),
    held(K.LANDING, 10_000, Phase.LANDING),
    event(K.COMPLETED, S.COMPLETED, 11_000, attempt=1, agent=ADA),
)


def test_the_parts_of_a_life_are_there_one_after_the_other() -> None:
    found = spans.of_task(LIFE, [])

    assert [(one.name, one.start, one.end) for one in found] == [
        ("task", 1_000, 11_000),
        ("wait", 1_000, 2_000),
        ("wait", 2_000, 3_000),
        ("invoke_agent ada", 3_000, 11_000),
        ("assign", 3_000, 3_100),
        ("setup", 3_100, 4_000),
        ("agent", 4_000, 9_000),
        ("verification", 9_000, 10_000),
        ("landing", 10_000, 11_000),
    ]
    assert [one.attributes.get("agentcom.wait") for one in found[1:3]] == ["dependencies", "queued"]


def test_every_part_lies_inside_its_parent_and_ids_are_unique() -> None:
    found = spans.of_task(LIFE, [turn(1, 5_000, 900), turn(2, 50_000, 90_000)])
    by_id = {one.id: one for one in found}

    assert len(by_id) == len(found)
    assert {one.trace for one in found} == {trace_ids.trace_id("c1", TASK)}
    for one in found[1:]:
        parent = by_id[one.parent or ""]
        assert parent.start <= one.start <= one.end <= parent.end, one


def test_turns_tell_model_and_tokens_by_the_conventions() -> None:
    found = spans.of_task(LIFE, [turn(1, 5_000, 900)])

    (one,) = [span for span in found if span.name == "chat claude-sonnet-4-5"]
    assert (one.start, one.end) == (4_100, 5_000)
    assert one.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.response.model": "claude-sonnet-4-5",
        "gen_ai.agent.name": "ada",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "agentcom.runtime": "claude",
        "agentcom.cost_usd": 0.0015,
    }


def test_a_failed_attempt_and_the_one_that_made_good_are_told_apart() -> None:
    life = (
        event(K.SUBMITTED, S.QUEUED, 0),
        held(K.ASSIGNED, 10, None),
        held(K.ACCEPTED, 20, Phase.PREPARING),
        event(K.FAILED, S.WAITING, 30, wait=Wait.RETRY, failure=FailureClass.CRASHED, attempt=1),
        event(K.UNBLOCKED, S.QUEUED, 40, attempt=1),
        held(K.ASSIGNED, 50, None, 2),
        held(K.ACCEPTED, 60, Phase.WORKING, 2),
        event(K.COMPLETED, S.COMPLETED, 70, attempt=2),
    )

    found = spans.of_task(life, [turn(1, 25, 2), turn(1, 65, 2, attempt=2)])

    attempts = [one for one in found if one.name.startswith("invoke_agent")]
    assert [(one.name, one.start, one.end, one.failure) for one in attempts] == [
        ("invoke_agent ada", 10, 30, "crashed"),
        ("invoke_agent bob", 50, 70, None),
    ]
    chats = [one for one in found if one.name.startswith("chat")]
    assert [one.parent for one in chats] == [one.id for one in attempts]
    assert found[0].failure is None


def test_a_task_that_failed_says_why() -> None:
    life = (
        event(K.SUBMITTED, S.QUEUED, 0),
        event(K.FAILED, S.FAILED, 10, failure=FailureClass.EXPIRED),
    )

    assert spans.of_task(life, [])[0].failure == "expired"


def test_a_reopened_task_has_a_trace_for_its_new_life_only() -> None:
    life = (
        event(K.SUBMITTED, S.QUEUED, 0),
        event(K.CANCELLED, S.CANCELLED, 10),
        event(K.REOPENED, S.QUEUED, 100),
        event(K.CANCELLED, S.CANCELLED, 110),
        event(K.RESULT_KEPT, S.CANCELLED, 500),
    )

    first, again = spans.of_task(life[:2], []), spans.of_task(life, [])

    assert (again[0].start, again[0].end) == (100, 110)
    assert not {one.id for one in first} & {one.id for one in again}


def test_what_has_not_ended_has_no_trace() -> None:
    assert spans.of_task(LIFE[:-1], []) == []
    assert spans.of_task((), []) == []


def test_a_traceparent_at_the_submit_is_gone_on_with() -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"

    assert trace_ids.trace_id(trace, TASK) == trace
    assert trace_ids.traceparent(trace, TASK, 1).split("-") == [
        "00",
        trace,
        spans.of_task(LIFE, [])[3].id,
        "01",
    ]
    assert trace_ids.trace_id("0" * 32, TASK) != "0" * 32
