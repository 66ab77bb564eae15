"""What a machine must be told, from rows and its report."""

from collections.abc import Sequence

import pytest

from agentcom.core.reconcile import Orders, phase_of, reconcile
from agentcom.model.agent import Held, HeldStage
from agentcom.model.ids import AgentId, Fence, MachineId, ProjectId, TaskId, UserId, WallTime
from agentcom.model.task import Phase, StopReason, Task, TaskState

T, M1, M2 = TaskId("t"), MachineId("m1"), MachineId("m2")
MINE, OLD, NEW = Fence(7, 2), Fence(7, 1), Fence(7, 3)
NOTHING = Orders([], [], [], [], [], [], [])


def row(state: TaskState, **fields: object) -> Task:
    base = Task(
        id=T,
        project=ProjectId("p"),
        submitter=UserId("u"),
        title="t",
        state=state,
        changed_at=WallTime(100),
        incarnation=7,
        attempt=2,
        agent=AgentId("a"),
        machine=M1,
    )
    values = {name: getattr(base, name) for name in Task.__struct_fields__}
    return Task(**(values | fields))


def orders(
    task: Task | None,
    report: Sequence[Held],
    *,
    granted: bool = False,
    before: int = 1_000,
    now: int = 1_000,
    incarnation: int = 7,
) -> Orders:
    tasks = {} if task is None else {T: task}
    rows = [task] if task is not None and task.state.held and task.machine == M1 else []
    return reconcile(
        M1,
        tasks=tasks,
        rows=rows,
        granted=frozenset([T] if granted else []),
        report=report,
        pushed_before=WallTime(before),
        now=WallTime(now),
        incarnation=incarnation,
    )


def held(fence: Fence = MINE, stage: HeldStage = HeldStage.RUNNING) -> Held:
    return Held(T, fence, stage)


@pytest.mark.parametrize("stage", list(HeldStage))
def test_when_both_agree_there_is_nothing_to_say(stage: HeldStage) -> None:
    assert orders(row(TaskState.RUNNING), [held(stage=stage)]) == NOTHING


@pytest.mark.parametrize("stage", list(HeldStage))
def test_an_attempt_whose_acceptance_got_lost_has_begun(stage: HeldStage) -> None:
    task = row(TaskState.ASSIGNED)

    assert orders(task, [held(stage=stage)]) == NOTHING._replace(begun=[task])


def test_an_assignment_that_got_lost_is_pushed_again() -> None:
    task = row(TaskState.ASSIGNED)

    assert orders(task, []) == NOTHING._replace(push=[task])


def test_an_assignment_of_a_hub_before_the_restore_is_not_pushed_again() -> None:
    task = row(TaskState.ASSIGNED)

    assert orders(task, [], incarnation=MINE.incarnation).push == [task]
    assert orders(task, [], incarnation=MINE.incarnation + 1) == NOTHING._replace(gone=[task])


def test_an_assignment_that_may_be_on_its_way_is_left_alone() -> None:
    assert orders(row(TaskState.ASSIGNED), [], before=99) == NOTHING


@pytest.mark.parametrize(("now", "again"), [(99, True), (100, False), (104, False)])
def test_an_assignment_from_after_now_is_pushed_again_since_the_clock_was_set_back(
    *, now: int, again: bool
) -> None:
    task = row(TaskState.ASSIGNED)

    found = orders(task, [], before=now - 5, now=now)

    assert found == NOTHING._replace(push=[task] if again else [])


def test_an_assignment_that_shall_stop_is_not_pushed_but_stopped() -> None:
    task = row(TaskState.ASSIGNED, stop_reason=StopReason.CANCELLED)

    assert orders(task, []) == NOTHING._replace(stop=[(T, MINE, task)])


def test_a_running_attempt_that_its_machine_does_not_have_is_gone() -> None:
    task = row(TaskState.RUNNING)

    assert orders(task, []) == NOTHING._replace(gone=[task])


def test_an_attempt_that_shall_stop_is_told_again() -> None:
    task = row(TaskState.RUNNING, stop_reason=StopReason.TIMED_OUT)

    assert orders(task, [held()], granted=True) == NOTHING._replace(stop=[(T, MINE, task)])


@pytest.mark.parametrize("stage", list(HeldStage))
def test_a_grant_is_repeated_to_who_waits_for_it_and_not_to_who_lands(stage: HeldStage) -> None:
    task = row(TaskState.RUNNING, phase=Phase.LANDING)
    waits = stage in (HeldStage.FINISHED, HeldStage.READY)
    expected = [task] if waits else []

    assert orders(task, [held(stage=stage)], granted=True) == NOTHING._replace(land=expected)


def test_the_newest_holder_of_a_lost_attempt_resumes() -> None:
    task = row(TaskState.QUEUED, lost=True)

    assert orders(task, [held()]) == NOTHING._replace(resume=[(task, held())])


@pytest.mark.parametrize(
    ("task", "fence"),
    [
        (None, MINE),
        (row(TaskState.QUEUED), MINE),
        (row(TaskState.WAITING), MINE),
        (row(TaskState.QUEUED, lost=True), OLD),
        (row(TaskState.RUNNING, machine=M2), MINE),
        (row(TaskState.RUNNING, machine=M2), OLD),
    ],
)
@pytest.mark.parametrize("stage", list(HeldStage))
def test_a_stale_attempt_is_stopped_unless_it_is_about_to_report(
    task: Task | None, fence: Fence, stage: HeldStage
) -> None:
    expected = [] if stage is HeldStage.FINISHED else [(T, fence, None)]

    assert orders(task, [held(fence, stage)]) == NOTHING._replace(stop=expected)


def test_a_fence_beyond_the_row_says_that_the_store_is_old() -> None:
    assert orders(row(TaskState.QUEUED), [held(NEW)]) == NOTHING._replace(beyond=[held(NEW)])


def test_a_fence_that_a_hub_gave_after_its_backup_is_only_stale() -> None:
    report = [held(NEW), held(Fence(8, 3), HeldStage.LANDING)]

    found = orders(row(TaskState.QUEUED), report, incarnation=9)

    assert found == NOTHING._replace(stop=[(T, NEW, None), (T, Fence(8, 3), None)])


@pytest.mark.parametrize("stage", list(HeldStage))
def test_what_a_restored_store_has_lost_is_refused_and_stops_nothing_else(
    stage: HeldStage,
) -> None:
    expected = [] if stage is HeldStage.FINISHED else [(T, NEW, None)]

    found = orders(row(TaskState.QUEUED), [held(NEW, stage)], incarnation=8)

    assert found == NOTHING._replace(stop=expected)


@pytest.mark.parametrize(
    ("item", "phase"),
    [
        (Held(T, MINE, HeldStage.RUNNING, Phase.VERIFYING), Phase.VERIFYING),
        (Held(T, MINE, HeldStage.FINISHED), Phase.VERIFYING),
        (Held(T, MINE, HeldStage.READY), Phase.VERIFYING),
        (Held(T, MINE, HeldStage.STORED), Phase.WORKING),
    ],
)
def test_a_returning_attempt_is_in_the_phase_that_its_machine_names(
    item: Held, phase: Phase
) -> None:
    assert phase_of(item) is phase
