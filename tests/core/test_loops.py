"""Work that succeeds again and again, and changes nothing."""

from typing import Any

import pytest

from agentcom.core import facts, leases, loops
from agentcom.core.facts import Fact
from agentcom.model.graph import Dependency
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.limits import LOOP_LINEAGES, LOOP_PER_HOUR, LOOP_UNCHANGED
from agentcom.model.replies import Explanation
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import Task, TaskSpec, TaskState, Wait
from agentcom.testing.world import person
from tests.core.acts import Pool, merging

REPO = "https://example.org/api.git"
BASE = "b" * 40
HOUR = 3_600_000
REASON = f"suspected loop: completed {LOOP_UNCHANGED} times without a change"


def spec(title: str = "tidy", **fields: Any) -> TaskSpec:
    return TaskSpec(title=title, prompt="p", **{"repo": REPO, **fields})


def outcome(commit: str | None = None, base: str | None = BASE) -> Result:
    return Result(status=ResultStatus.DONE, commit=commit, base_commit=base)


def once(world: Pool, wanted: TaskSpec, result: Result | None = None, **how: Any) -> Task:
    """Let one task run to its end; return it as it was when it was submitted."""
    (task,) = world.submit(wanted, **how)
    row = world.task(task)
    if row.state is TaskState.ASSIGNED:
        world.accept(task)
        world.finish(task, result or outcome())
    return row


def spin(world: Pool, wanted: TaskSpec, times: int = LOOP_UNCHANGED) -> None:
    if not world.view.machines:
        world.machine("m1")
    for _ in range(times):
        assert once(world, wanted).state is TaskState.ASSIGNED


def test_work_that_changed_nothing_eight_times_waits_for_a_person() -> None:
    world = Pool()
    spin(world, spec())

    row = once(world, spec())

    assert (row.state, row.wait, row.reason) == (TaskState.WAITING, Wait.APPROVAL, REASON)
    assert world.feed[-1].record.detail == REASON
    assert not any(key.startswith("wait/") for key in world.timers)


@pytest.mark.parametrize(
    "other",
    [
        spec("another title"),
        spec(repo="https://example.org/web.git"),
        spec(unique_key="nightly"),
        spec(repo=None),
    ],
)
def test_other_work_is_not_held_back(other: TaskSpec) -> None:
    world = Pool()
    spin(world, spec())

    assert once(world, other).state is TaskState.ASSIGNED


def test_what_someone_else_submits_is_other_work() -> None:
    world = Pool()
    spin(world, spec())

    assert once(world, spec(), by="bob").state is TaskState.ASSIGNED


def test_tasks_without_a_lineage_are_not_counted() -> None:
    world = Pool()
    spin(world, spec(repo=None), times=LOOP_PER_HOUR + 2)

    assert world.view.loops == {}


def test_a_new_commit_ends_the_row() -> None:
    world = Pool()
    spin(world, spec(), times=LOOP_UNCHANGED - 1)

    once(world, spec(), outcome(commit="d" * 40))

    spin(world, spec(), times=LOOP_UNCHANGED - 1)
    assert once(world, spec()).state is TaskState.ASSIGNED


def test_a_base_that_others_moved_is_a_change() -> None:
    world = Pool()
    spin(world, spec(), times=LOOP_UNCHANGED - 1)

    once(world, spec(), outcome(base="e" * 40))

    assert once(world, spec()).state is TaskState.ASSIGNED


def test_the_same_commit_again_is_no_change() -> None:
    world = Pool()
    world.machine("m1")
    for _ in range(LOOP_UNCHANGED):
        once(world, spec(), outcome(commit="d" * 40))

    assert once(world, spec()).wait is Wait.APPROVAL


def test_a_landing_counts_by_the_commit_that_it_brought() -> None:
    world = Pool()
    world.machine("m1")
    for _ in range(LOOP_UNCHANGED):
        (task,) = world.submit(spec())
        world.accept(task)
        world.finish(task, merging())
        world.land(task)

    assert once(world, spec()).wait is Wait.APPROVAL


def test_equal_tasks_that_were_submitted_together_are_no_loop() -> None:
    world = Pool()
    tasks = world.submit(*[spec()] * (3 * LOOP_UNCHANGED))
    world.machine("m1")

    for task in tasks:
        world.accept(task)
        world.finish(task, outcome())

    assert once(world, spec()).state is TaskState.ASSIGNED


def test_work_that_comes_too_often_is_a_loop_though_there_is_no_repository() -> None:
    world = Pool()
    wanted = spec(repo=None, unique_key="watch")
    world.machine("m1")
    for _ in range(LOOP_PER_HOUR + 1):
        assert once(world, wanted, outcome(base=None)).state is TaskState.ASSIGNED

    row = once(world, wanted)

    assert row.reason == f"suspected loop: completed {LOOP_PER_HOUR + 1} times within an hour"
    world.ask(facts.Cancel(row.id))
    world.advance(HOUR)
    assert once(world, wanted).reason is None


def test_an_hour_begins_anew() -> None:
    world = Pool()
    wanted = spec(repo=None, unique_key="watch")
    spin_times = LOOP_PER_HOUR - 1
    world.machine("m1")
    for _ in range(3):
        for _ in range(spin_times):
            assert once(world, wanted, outcome(base=None)).state is TaskState.ASSIGNED
        world.advance(HOUR)
        world.machine("m1")


def test_retry_lets_it_run_and_the_count_begins_anew() -> None:
    world = Pool()
    spin(world, spec())
    row = once(world, spec())

    world.ask(facts.Retry(row.id))

    assert world.task(row.id).state is TaskState.ASSIGNED
    world.accept(row.id)
    world.finish(row.id, outcome())
    assert once(world, spec()).state is TaskState.ASSIGNED


def test_a_retried_loop_still_waits_for_its_dependencies_and_then_runs() -> None:
    world = Pool()
    spin(world, spec())
    (first,) = world.submit(spec("first", needs=("gpu",)))
    row = once(world, spec(depends_on=(Dependency(first),)))
    assert row.wait is Wait.APPROVAL

    world.ask(facts.Retry(row.id))

    assert world.task(row.id).wait is Wait.DEPENDENCIES


def test_a_retried_loop_still_waits_for_its_start_time() -> None:
    world = Pool()
    spin(world, spec())
    start = WallTime(world.now.wall + 60_000)
    row = once(world, spec(not_before=start))

    world.ask(facts.Retry(row.id))

    assert (world.task(row.id).wait, world.task(row.id).until) == (Wait.START_TIME, start)
    world.advance(60_000)
    assert world.task(row.id).state is not TaskState.WAITING


def test_dependencies_that_end_do_not_release_it() -> None:
    world = Pool()
    spin(world, spec())
    (first,) = world.submit("first")
    row = once(world, spec(depends_on=(Dependency(first),)))

    world.accept(first)
    world.finish(first)

    assert world.task(row.id).wait is Wait.APPROVAL


def test_what_is_meant_to_repeat_says_so() -> None:
    world = Pool()
    world.machine("m1")
    for _ in range(LOOP_UNCHANGED + 2):
        assert once(world, spec(repeats=True)).state is TaskState.ASSIGNED


def test_a_schedule_is_a_lineage_of_its_own_and_a_person_decides_about_it() -> None:
    world = Pool()
    world.machine("m1")
    lineage = loops.schedule_lineage("s1")
    for n in range(LOOP_UNCHANGED):
        submit(world, lineage, f"run {n}")
    key = ("default", lineage)
    assert loops.suspicion(world.view, key, world.now.wall) == REASON

    task = submit(world, lineage, "a person wants it")

    assert world.task(task).state is TaskState.COMPLETED
    assert loops.suspicion(world.view, key, world.now.wall) is None


def submit(world: Pool, lineage: str, title: str) -> TaskId:
    world.tell(facts.Submit((spec(title),), lineage=lineage), person("ann"))
    task = max(world.view.tasks)
    world.accept(task)
    world.finish(task, outcome())
    return task


def test_why_says_what_a_person_can_do() -> None:
    world = Pool()
    spin(world, spec())
    row = once(world, spec())

    found = world.ask(facts.Explain(row.id))

    assert isinstance(found, Explanation)
    assert found.summary == f"a person must look at it: {REASON}"
    assert f"agentcom task retry {row.id}" in found.next_action
    assert "--allow-repeat" in found.next_action


def test_counts_of_a_batch_that_was_not_written_are_taken_back() -> None:
    world = Pool()
    spin(world, spec(), times=2)
    (task,) = world.submit(spec())
    row = world.accept(task)
    before = dict(world.view.loops)
    finished = facts.Finished(task, row.fence, outcome())

    world.decide([Fact(body=finished, actor=person("m1"))], commit=False)

    assert world.view.loops == before


def test_only_the_newest_lineages_are_counted() -> None:
    world = Pool()
    spin(world, spec("old"), times=1)
    (task,) = world.submit(spec())
    row = world.task(task)
    count = loops.Count(BASE, 1, world.now.wall, 1, 1)
    for n in range(LOOP_LINEAGES - 1):
        world.view.loops[str(n),] = count

    loops.completed(world.view, row, BASE, world.now.wall)

    assert len(world.view.loops) == LOOP_LINEAGES
    assert ("default", "ann", "old", REPO) not in world.view.loops


def test_work_that_nobody_can_tell_is_not_watched() -> None:
    world = Pool()
    (task,) = world.submit("t")

    loops.completed(world.view, world.task(task), None, world.now.wall)
    loops.begin_again(world.view, None)

    assert world.view.loops == {}


def test_a_person_who_must_look_at_a_result_is_told_so_as_before() -> None:
    world = Pool()
    task = world.running()

    row = world.finish(task, Result(status=ResultStatus.DONE, needs_person=("tests deleted",)))

    assert not loops.is_suspected(row)


def test_a_memory_that_is_rebuilt_keeps_the_counts() -> None:
    world = Pool()
    spin(world, spec())
    counts = dict(world.view.loops)
    old = world.view

    world.restart()

    assert world.view.loops == {}
    leases.inherit(world.view, old)
    assert world.view.loops == counts
