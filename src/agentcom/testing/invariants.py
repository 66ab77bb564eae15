"""What must be true of a pool's view and rows after every batch, whatever came before."""

from collections import Counter
from collections.abc import Mapping

from agentcom.core.view import PoolView
from agentcom.model.batch import Row, Table
from agentcom.model.task import Edge, Hold, Phase, Task, TaskState, Wait

Rows = Mapping[tuple[Table, str], Row]


def check(view: PoolView, rows: Rows) -> None:
    """Raise `AssertionError` with the first invariant that does not hold."""
    stored = [row for row in rows.values() if isinstance(row, Task)]
    live = {task.id: task for task in stored if not task.state.terminal}
    assert view.tasks == live, "memory and store disagree about the live tasks"
    _check_holds(view, rows)
    _check_queue(view)
    _check_graph(view, rows)
    for task in live.values():
        _check_task(task)


def _check_task(task: Task) -> None:
    assert (task.wait is None) == (task.state is not TaskState.WAITING), task
    assert task.state.held == (task.phase is not None), task
    assert task.state.held == (task.deadline_at is not None), task
    assert task.stop_reason is None or task.state.held, task
    assert not task.state.held or (task.agent and task.machine and task.attempt), task
    assert task.expires_at is None or task.state is not TaskState.RUNNING, task
    if task.wait in (Wait.RETRY, Wait.QUOTA, Wait.START_TIME):
        assert task.until is not None, f"{task} would wait for ever"


def _check_holds(view: PoolView, rows: Rows) -> None:
    holds = [row for row in rows.values() if isinstance(row, Hold)]
    assert sorted((h.task, h.key) for h in holds) == sorted(
        (task, key) for task, mine in view.holds.items() for key in mine
    ), "memory and store disagree about the holds"
    for hold in holds:
        task = view.tasks.get(hold.task)
        assert task is not None, f"{hold} outlived its task"
        assert task.state.held, f"{hold} outlived its attempt"
        assert task.attempt == hold.attempt, f"{hold} belongs to an older attempt"
    slots = Counter(
        t.agent for t in view.tasks.values() if t.state.held and t.phase is not Phase.LANDING
    )
    for agent, used in view.slots_used.items():
        assert used == slots.pop(agent, 0), f"{agent} has {used} slots in use"
    assert not slots, f"slots in use that are not counted: {slots}"
    _check_landing(view, holds)


def _check_landing(view: PoolView, holds: list[Hold]) -> None:
    lands = Counter(h.key for h in holds if h.key.startswith("land:"))
    assert all(count == 1 for count in lands.values()), f"one base, two landings: {lands}"
    for key, queue in view.landing.items():
        assert queue, f"{key} has an empty queue"
        assert f"land:{key}" in view.holds.get(queue[0], {}), f"nobody may land on {key}"
    waiting = [task for queue in view.landing.values() for task in queue]
    landing = [t.id for t in view.tasks.values() if t.state.held and t.phase is Phase.LANDING]
    assert sorted(waiting) == sorted(landing), "a landing that is in no queue"


def _check_queue(view: PoolView) -> None:
    queued = sum(task.state is TaskState.QUEUED for task in view.tasks.values())
    assert view.matcher.depth() == queued, "the matcher's queue and the tasks disagree"
    for machine, tasks in view.held_by.items():
        for task_id in tasks:
            task = view.tasks[task_id]
            assert task.state.held, f"{machine} does not hold {task}"
            assert task.machine == machine, f"{machine} does not hold {task}"
    if not view.issuing:
        return
    for agent_id, agent in view.agents.items():
        if view.free_slots(agent) > 0:
            runnable = view.matcher.pick_task(view.class_of[agent_id])
            assert runnable is None, f"{runnable} is runnable, {agent_id} is free"


def _check_graph(view: PoolView, rows: Rows) -> None:
    edges = [row for row in rows.values() if isinstance(row, Edge)]
    for edge in edges:
        assert view.edges[edge.task][edge.on] == edge, f"{edge} is not in memory"
        if not edge.met and edge.on not in view.tasks:
            assert edge.on in view.todos, f"{edge} waits for a task that is over"
    for task in view.tasks.values():
        mine = view.edges.get(task.id, {})
        if task.wait is Wait.DEPENDENCIES:
            assert any(not edge.met for edge in mine.values()), f"{task} waits for nothing"
