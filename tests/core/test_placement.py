"""Placement: wishes decide between idle agents, and never keep a task waiting."""

import pytest

from agentcom.core import facts, placement
from agentcom.model import limits
from agentcom.model.errors import InvalidInput
from agentcom.model.failure import FailureClass
from agentcom.model.ids import MachineId
from agentcom.model.task import TaskSpec
from agentcom.testing.world import agent, machine
from tests.core.acts import Pool, failed

REPO = "https://git.example/r.git"


def wants(*prefers: str, **fields: object) -> TaskSpec:
    return TaskSpec(title="t", prompt="p", prefers=prefers, **fields)  # type: ignore[arg-type]  # as given


def fleet() -> Pool:
    world = Pool()
    world.machine("m1", agent("plain"))
    world.machine("m2", agent("gpu", "gpu"))
    world.machine("m3", agent("both", "gpu", "zone=eu"))
    return world


def test_an_agent_that_has_what_is_preferred_is_chosen() -> None:
    world = fleet()
    (task,) = world.submit(wants("gpu"))

    assert world.task(task).agent == "gpu"


def test_weights_add_up() -> None:
    world = fleet()
    (task,) = world.submit(wants("agent!=x", "gpu*2", "zone=eu*3"))

    assert world.task(task).agent == "both"


def test_a_wish_that_nobody_meets_keeps_no_task_waiting() -> None:
    world = fleet()

    assert all(world.task(t).agent for t in world.submit(*[wants("fpga*9")] * 3))


def test_work_is_spread_over_machines_if_wished() -> None:
    world = Pool()
    world.machine("m1", agent("a1", slots=1), agent("a2", slots=1))
    world.machine("m2", agent("b1", slots=1), agent("b2", slots=1))
    tasks = world.submit(wants("spread"), wants("spread"))

    assert {world.task(task).machine for task in tasks} == {"m1", "m2"}


def test_a_session_goes_on_with_its_agent_if_that_is_idle() -> None:
    world = fleet()
    (task,) = world.submit("t")
    first = world.task(task).agent
    world.accept(task)
    saved = facts.Checkpointed(task, world.task(task).fence, "c" * 40, "session-1")
    world.tell(saved, machine(world.task(task).machine or ""))
    world.finish(task, failed(failure=FailureClass.CRASHED))

    world.advance(limits.RETRY_MAX_MS)

    assert world.task(task).attempt == 2
    assert world.task(task).agent == first


def test_a_machine_that_had_the_repository_gets_its_next_task() -> None:
    world = fleet()
    (first,) = world.submit(wants(repo=REPO, needs=("zone=eu",)))
    world.accept(first)
    world.finish(first)

    (second,) = world.submit(wants(repo=REPO))

    assert world.task(second).agent == "both"


def test_what_is_warm_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WARM_REPOSITORIES", 2)
    monkeypatch.setattr(limits, "WARM_MACHINES", 1)
    world = fleet()
    for number in range(3):
        world.submit(wants(repo=f"https://git.example/{number}"))

    assert len(world.view.warm) == 2
    (task,) = world.submit(wants(repo="https://git.example/2"))
    placement.note_warm(world.view, world.task(task), MachineId("m9"))
    assert list(world.view.warm.values())[-1] == ("m9",)


def test_a_preference_is_a_need_with_a_weight() -> None:
    assert placement.parse("spread*3") == (None, 3.0)
    assert placement.parse("gpu")[1] == 1.0


@pytest.mark.parametrize("weight", ["x", "", "0", "1001", "\u00b2", "\u0663", "9" * 5_000])
def test_a_weight_that_is_none_is_refused_and_ends_nothing(weight: str) -> None:
    with pytest.raises(InvalidInput, match="prefers") as caught:
        placement.parse(f"gpu*{weight}")

    assert len(str(caught.value)) < 300
