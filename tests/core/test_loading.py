"""A view that is built from the rows is the view that wrote them."""

import msgspec
import pytest

from agentcom.core.effects import SetTimer
from agentcom.core.view import PoolView
from agentcom.model.batch import Table
from agentcom.model.graph import Dependency
from agentcom.model.ids import Instant, MachineId
from agentcom.model.limits import RESTART_GRACE_MS
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import LandPolicy, TaskSpec, TaskState
from agentcom.model.todo import Todo, TodoKind
from agentcom.model.verification import CheckResult, Report
from agentcom.testing import invariants
from agentcom.testing.world import World
from tests.core.quota_acts import ANN, HOUR_MS, account, parked

MERGE = Result(
    status=ResultStatus.DONE,
    commit="c",
    report=Report(commit="c", checks=(CheckResult(name="t", passed=True),)),
    land=LandPolicy.MERGE,
    land_key="r#main",
)


@pytest.fixture
def world() -> World:
    world = World()
    world.machine("m1")
    world.machine("m2")
    return world


def test_rows_give_the_same_view_again(world: World) -> None:
    held, landing = world.submit("held", TaskSpec(title="landing", prompt="p"))
    world.submit("queued", TaskSpec(title="unique", prompt="p", unique_key="k"))
    world.submit(TaskSpec(title="later", prompt="p", depends_on=(Dependency(held),)))
    world.finish(landing, MERGE)
    before = world.view

    world.restart()

    invariants.check(world.view, world.rows)
    for name in ("tasks", "edges", "dependants", "landing", "unique", "agents", "machines"):
        assert getattr(world.view, name) == getattr(before, name), name
    used = {agent: count for agent, count in before.slots_used.items() if count}
    assert world.view.slots_used == used


def test_the_landing_that_had_its_base_still_has_it(world: World) -> None:
    first, second = world.submit("first", "second")
    world.finish(first, MERGE)
    world.finish(second, MERGE)

    world.restart()

    assert world.view.landing == {"r#main": (first, second)}


def test_holders_get_time_to_come_back(world: World) -> None:
    world.submit("held")
    world.effects.clear()

    world.restart()

    timers = {e.key: e.at for e in world.effects if isinstance(e, SetTimer)}
    assert timers["lease/m1"] == Instant(world.now_ms + RESTART_GRACE_MS)
    assert world.view.sessions[MachineId("m1")].connection is None


def test_a_cascade_that_was_under_way_goes_on(world: World) -> None:
    root = world.submit("root")[0]
    children = [TaskSpec(title="c", prompt="p", depends_on=(Dependency(root),))] * 40
    world.submit(*children)
    todo = Todo(kind=TodoKind.RELEASE_DEPENDANTS, task=root, succeeded=True)
    world.rows[Table.TODO, root] = todo
    world.rows[Table.TASK, root] = msgspec.structs.replace(
        world.task(root), state=TaskState.COMPLETED
    )
    for key in [key for key in world.rows if key[0] is Table.HOLD]:
        del world.rows[key]

    world.restart()

    assert not world.view.todos
    assert not world.view.dependants
    assert world.view.matcher.depth() + len(world.pushed()) >= len(children)


def test_a_long_queue_is_loaded_without_a_long_journal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []
    confirm = PoolView.confirm

    def watched(view: PoolView) -> None:
        lengths.append(len(view.journal))
        confirm(view)

    world.submit(*[f"task {number}" for number in range(50)])
    queued = world.view.matcher.depth()
    monkeypatch.setattr(PoolView, "confirm", watched)
    world.restart()

    assert lengths[-1] < queued
    assert world.view.matcher.depth() == queued


def test_accounts_without_quota_come_back_with_their_timers() -> None:
    world, _ = parked()
    row = account(world)

    world.restart()

    assert world.view.accounts == {ANN: row}
    assert world.timers[f"account/{ANN}"].at == world.now_ms + HOUR_MS
