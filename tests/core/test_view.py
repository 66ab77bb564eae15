"""The live rows, their indexes, and the journal that takes changes back."""

import pytest

from agentcom.core import facts, view
from agentcom.core.view import PoolView
from agentcom.model.agent import Account, AgentState
from agentcom.model.ids import DEFAULT_POOL, AgentId, MachineId
from agentcom.model.task import TaskSpec
from agentcom.testing.world import agent
from tests.core.acts import Pool
from tests.core.quota_acts import ANN, parked

ADA = AgentId("ada")


def a_view() -> PoolView:
    return PoolView(DEFAULT_POOL, incarnation=1, term=1)


def state(world: Pool) -> AgentState:
    return world.view.agent_state(world.view.agents[ADA])


def test_a_rollback_restores_what_was_there() -> None:
    pool = a_view()
    mapping = {"a": 1, "b": 2}
    pool.put(mapping, "a", 5)
    mark = len(pool.journal)
    pool.put(mapping, "a", 6)
    pool.put(mapping, "new", 7)
    pool.drop(mapping, "b")
    pool.drop(mapping, "never")

    pool.rollback(mark)
    assert mapping == {"a": 5, "b": 2}
    pool.discard()

    assert mapping == {"a": 1, "b": 2}


def test_what_is_confirmed_is_not_taken_back() -> None:
    pool = a_view()
    mapping: dict[str, int] = {}
    pool.put(mapping, "a", 1)

    pool.confirm()
    pool.discard()

    assert mapping == {"a": 1}


def test_only_the_newest_request_keys_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "RECENT_KEYS", 2)
    world = Pool()

    for n in range(4):
        world.submit("t", key=f"k{n}")

    assert list(world.view.requests) == ["ann/k2", "ann/k3"]
    assert world.submit("t", key="k0")


def test_few_parsed_needs_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "_FEW", 2)
    pool = a_view()

    parsed = [pool.parse_needs((f"n{n}",)) for n in range(5)]

    assert [str(needs[0]) for needs in parsed] == [f"n{n}" for n in range(5)]
    assert len(pool._needs) <= 2


def test_tasks_that_need_the_same_hold_one_text_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "_FEW", 2)
    pool = Pool().view

    first = pool.write_needs(("rust", "git"))
    again = pool.write_needs(("rust", "git"))
    others = [pool.write_needs((f"n{n}",)) for n in range(5)]

    assert first is again
    assert first == ("git", "rust")
    assert others[4] == ("n4",)
    assert len(pool._needs) <= 2


def test_an_agent_that_nobody_knows_cannot_take_work() -> None:
    view = a_view()

    view.refresh(ADA)

    assert view.matcher.agent(ADA) is None


def test_an_agent_without_a_session_has_no_free_slot() -> None:
    world = Pool()
    world.machine("m1", agent("ada", slots=3))
    assert world.view.free_slots(world.view.agents[ADA]) == 3

    world.restart()

    assert world.view.free_slots(world.view.agents[ADA]) == 0


def test_the_state_of_an_agent_follows_from_its_session_and_its_holds() -> None:
    world = Pool()
    world.machine("m1", "ada")
    assert state(world) is AgentState.IDLE
    (task,) = world.submit("t")
    assert state(world) is AgentState.ASSIGNED
    world.accept(task)
    assert state(world) is AgentState.WORKING
    world.ask(facts.PauseAgent(ADA, paused=True))
    assert state(world) is AgentState.DRAINING
    world.tell(facts.MachineDisconnected(MachineId("m1"), 1))
    assert state(world) is AgentState.OFFLINE


def test_an_agent_that_changes_its_offer_changes_its_class() -> None:
    world = Pool()
    world.machine("m1", agent("ada", "python"))

    world.machine("m1", agent("ada", "python", "gpu"))
    (task,) = world.submit(TaskSpec(title="t", prompt="p", needs=("gpu",)))

    assert world.task(task).agent == ADA
    assert world.view.shapes.live_classes == 1


def test_a_queue_that_is_rolled_back_is_as_it_was() -> None:
    world = Pool()
    (task,) = world.submit("t")
    row = world.view.tasks[task]

    world.view.withdraw(task)
    world.view.withdraw(task)
    assert world.view.matcher.depth() == 0
    world.view.discard()
    assert world.view.matcher.heads()[0][3] == task
    world.view.withdraw(task)
    world.view.enqueue(row)
    world.view.discard()

    assert world.view.matcher.heads()[0][3] == task


def test_the_shape_of_a_task_that_is_over_counts_no_more() -> None:
    world = Pool()
    (task,) = world.submit("t")
    assert world.view.shapes.live_shapes == 1

    world.ask(facts.Cancel(task))

    assert world.view.shapes.live_shapes == 0


def test_a_exhausted_account_leaves_no_free_slot_and_one_that_is_tried_leaves_one() -> None:
    world, _ = parked("m1", slots=3)
    mine = world.view.agents[AgentId("a-m1")]

    assert world.view.free_slots(mine) == 0
    assert world.view.agent_state(mine) is AgentState.BLOCKED
    world.view.accounts[ANN] = Account(id=ANN)
    assert world.view.free_slots(mine) == 1
    assert world.view.agent_state(mine) is AgentState.IDLE
    world.view.accounts.clear()
    assert world.view.free_slots(mine) == 3
