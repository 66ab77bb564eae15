"""What an attempt takes, and gives back."""

import pytest

from agentcom.core import facts, holding
from agentcom.core.effects import GrantLanding
from agentcom.core.ledger import Ledger
from agentcom.model.hold import Hold
from agentcom.model.ids import AgentId, MachineId
from agentcom.model.result import LandStatus
from agentcom.testing.world import agent, machine
from tests.core.acts import KEY, Pool


def test_an_attempt_holds_a_slot_of_its_agent() -> None:
    world = Pool()

    task = world.running()

    assert task not in world.view.holds, "the task's own row tells it"
    assert world.view.slots_used == {AgentId("m1"): 1}
    assert list(world.view.held_by[MachineId("m1")]) == [task]


def test_landing_needs_the_base_and_no_agent() -> None:
    world = Pool()

    task = world.landing()

    assert world.view.holds[task] == {f"land:{KEY}": Hold(task=task, attempt=1, key=f"land:{KEY}")}
    assert world.view.slots_used == {AgentId("m1"): 0}


def test_who_waits_for_a_base_holds_nothing() -> None:
    world = Pool()
    world.landing()

    second = world.landing()

    assert second not in world.view.holds


def test_who_leaves_the_middle_of_the_queue_changes_nothing_for_the_others() -> None:
    world = Pool()
    first, second, third = world.landing(), world.landing(), world.landing()
    grants = sum(isinstance(effect, GrantLanding) for effect in world.effects)
    world.ask(facts.Cancel(second))

    world.tell(facts.Stopped(second, world.task(second).fence), machine("m1"))

    assert world.view.landing == {KEY: (first, third)}
    assert sum(isinstance(effect, GrantLanding) for effect in world.effects) == grants


def test_a_base_passes_to_the_next_when_its_holders_machine_is_lost() -> None:
    world = Pool()
    first = world.landing(on="m1")
    world.ask(facts.PauseAgent(AgentId("m1"), paused=True))
    second = world.landing(on="m2")
    world.advance(15_000)
    world.beat("m2", [world.holding(second)])

    world.advance(10_000)

    assert world.view.landing == {KEY: (second,)}
    assert f"land:{KEY}" in world.view.holds[second]
    assert world.task(first).landing_only


def test_one_task_may_hold_several_things() -> None:
    world = Pool()
    task = world.running()
    ledger = Ledger(world.view, now=world.now, ids=world.ids, rng=world.rng)

    holding.take_hold(ledger, Hold(task=task, attempt=1, key="gpu"))
    holding.take_hold(ledger, Hold(task=task, attempt=1, key="scope:src"))
    assert set(world.view.holds[task]) == {"scope:src", "gpu"}
    holding.drop_hold(ledger, task, "scope:src")

    assert set(world.view.holds[task]) == {"gpu"}
    assert [change.key for change in ledger.batch().changes] == [f"{task}/gpu"]


def test_the_last_who_lands_leaves_no_queue() -> None:
    world = Pool()
    task = world.landing()

    world.land(task)

    assert world.view.landing == {}


def test_only_the_landing_that_has_its_base_has_a_timer() -> None:
    world = Pool()
    first, second = world.landing(), world.landing()
    assert landing_timers(world) == [f"land/{first}"]

    world.land(first)
    assert landing_timers(world) == [f"land/{second}"]
    world.land(second, LandStatus.CONFLICT)

    assert landing_timers(world) == []


def landing_timers(world: Pool) -> list[str]:
    return [key for key in world.timers if key.startswith("land/")]


def test_what_such_work_took_is_learned_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcom.core.holding.PACES_MAX", 1)
    world = Pool()
    for took_ms in 1_000, 2_000:
        task = world.running()
        world.advance(took_ms)
        world.finish(task)
    assert world.view.pace == {("prompt",): 1_200.0}

    world.machine("m2", agent("b", "gpu"))
    world.finish(world.running(on="m2", needs=("gpu",)))

    assert list(world.view.pace) == [("gpu", "prompt")]
