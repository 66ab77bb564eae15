"""What a pause sets in motion, at each of its four levels."""

import msgspec
import pytest

from agentcom.core import facts, pauses
from agentcom.core.effects import Stop
from agentcom.core.facts import Fact
from agentcom.model.agent import AgentState, Held, HeldStage
from agentcom.model.batch import Table
from agentcom.model.errors import IllegalTransition, InvalidInput, NotAllowed, NotFound
from agentcom.model.event import EventKind
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import DEFAULT_PROJECT, AgentId, MachineId, ProjectId, TaskId, UserId
from agentcom.model.limit import Limit
from agentcom.model.limits import CASCADE_BATCH, REASON_CHARS
from agentcom.model.replies import Done, Explanation, Submitted
from agentcom.model.task import Phase, StopReason, TaskSpec, TaskState
from agentcom.testing.world import agent, machine, person
from tests.core.acts import Pool

PROJECT = f"project:{DEFAULT_PROJECT}"
OTHER = Identity(role=Role.OPERATOR, user=UserId("oto"), credential="o", project=ProjectId("web"))
WIDE = ("all", "pool:default", PROJECT)


def close(world: Pool, scope: str, **more: object) -> None:
    assert world.ask(facts.Pause(scope, paused=True, **more)) == Done("paused")  # type: ignore[arg-type]  # fields


def lift(world: Pool, scope: str) -> None:
    assert world.ask(facts.Pause(scope, paused=False)) == Done("resumed")


def other_project(world: Pool, title: str) -> TaskId:
    reply = world.ask(facts.Submit((TaskSpec(title=title, prompt="p"),)), OTHER)
    assert isinstance(reply, Submitted)
    return reply.tasks[0]


@pytest.mark.parametrize("scope", WIDE)
def test_nothing_in_a_paused_scope_is_given_out_until_it_is_resumed(scope: str) -> None:
    world = Pool()
    (before,) = world.submit("before")
    close(world, scope)
    (after,) = world.submit("after")

    world.machine("m1", agent("a", slots=2))
    assert world.pushed() == []
    lift(world, scope)

    assert [pushed.task for pushed in world.pushed()] == [before, after]


def test_a_paused_project_keeps_nobody_elses_work_from_a_free_agent() -> None:
    world = Pool()
    mine = world.submit(*(f"t{n}" for n in range(100)))
    close(world, PROJECT)
    theirs = other_project(world, "theirs")

    world.machine("m1", agent("a", slots=2))

    assert [pushed.task for pushed in world.pushed()] == [theirs]
    assert world.view.matcher.depth() == 0
    assert all(world.task(task).state is TaskState.QUEUED for task in mine)


def test_a_pause_and_a_resume_move_no_task_however_many_wait() -> None:
    world = Pool()
    tasks = world.submit(*(f"t{n}" for n in range(100)))

    for _ in range(2):
        close(world, PROJECT)
        assert (len(world.view.lanes), world.view.matcher.depth()) == (0, 100)
        lift(world, PROJECT)
    close(world, PROJECT)
    world.machine("m1", agent("a"))  # now each is looked at, once
    assert (len(world.view.lanes), world.view.lanes.hidden) == (1, 100)
    lift(world, PROJECT)
    assert world.view.lanes.hidden == 98  # one runs, one is shown, the others wait behind it
    close(world, PROJECT)

    assert (world.view.lanes.hidden, world.view.depth()) == (99, len(tasks) - 1)


def test_what_no_idle_agent_can_run_stays_where_it_is_when_one_of_two_pauses_ends() -> None:
    world = Pool()
    world.machine("m1", agent("idle"))
    world.ask(facts.SetLimit(Limit(scope="key:x", concurrency=1)))
    close(world, PROJECT)
    world.submit(*(TaskSpec(title="t", prompt="p", needs=("gpu",)) for _ in range(9)))

    lift(world, PROJECT)

    assert (world.view.matcher.depth(), world.view.lanes.hidden) == (1, 8)
    world.machine("m2", agent("able", "gpu", slots=2))
    assert len(world.pushed()) == 2


def test_what_was_paused_comes_back_to_its_own_place() -> None:
    world = Pool()
    first, second = world.submit("first", "second")
    close(world, f"task:{first}")
    world.restart()
    lift(world, f"task:{first}")

    world.machine("m1")

    assert [pushed.task for pushed in world.pushed()] == [first]
    assert world.task(second).state is TaskState.QUEUED


def test_a_paused_task_lets_the_others_pass_and_its_feed_says_so() -> None:
    world = Pool()
    first, second = world.submit("first", "second")
    close(world, f"task:{first}", reason="not yet")

    world.machine("m1")

    assert [pushed.task for pushed in world.pushed()] == [second]
    told = next(a.record for a in world.feed if a.record.kind is EventKind.PAUSED)
    assert (told.task, told.detail, told.actor) == (first, "not yet", "ann")
    version = world.task(first).version
    close(world, f"task:{first}", reason="again")
    assert world.task(first).version == version


def test_a_task_under_two_pauses_waits_for_the_end_of_both() -> None:
    world = Pool()
    (task,) = world.submit("t")
    close(world, PROJECT)
    close(world, "all")
    close(world, f"task:{task}")
    world.machine("m1")

    for scope in ("all", f"task:{task}"):
        lift(world, scope)
        assert world.pushed() == []
    lift(world, PROJECT)

    assert len(world.pushed()) == 1


def test_pauses_outlive_a_restart_and_a_batch_that_was_not_written_leaves_none() -> None:
    world = Pool()
    world.submit("t")
    world.decide([Fact(body=facts.Pause("all", paused=True), actor=person("ann"))], commit=False)
    assert not world.view.pauses
    close(world, "all", reason="upgrade")

    world.restart()
    world.machine("m1")

    assert world.pushed() == []
    assert world.view.pauses["all"].reason == "upgrade"


def test_a_second_pause_has_the_last_word_and_a_second_resume_changes_nothing() -> None:
    world = Pool()
    close(world, "all", reason="one")
    close(world, "all", reason="two")

    assert world.view.pauses["all"].reason == "two"
    lift(world, "all")
    lift(world, "all")

    assert not world.view.pauses
    assert not any(table is Table.PAUSE for table, _ in world.rows)


def test_a_pause_that_is_lifted_and_set_again_in_one_batch_is_stored_once() -> None:
    world = Pool()
    close(world, "all", reason="one")
    ann = person("ann")

    world.decide(
        [
            Fact(body=facts.Pause("all", paused=False), actor=ann),
            Fact(body=facts.Pause("all", paused=True, reason="two"), actor=ann),
        ]
    )

    assert world.view.pauses["all"].reason == "two"


def test_what_runs_goes_on_and_its_next_attempt_waits() -> None:
    world = Pool()
    task = world.running()

    close(world, "all")
    assert world.task(task).stop_reason is None
    world.vanish("m1")
    world.machine("m2")

    assert world.task(task).state is TaskState.QUEUED
    assert len(world.pushed(task)) == 1


@pytest.mark.parametrize("scope", [*WIDE, "task"])
def test_what_runs_is_stopped_on_request_and_keeps_place_and_session(scope: str) -> None:
    world = Pool()
    task = world.running()
    world.tell(facts.Checkpointed(task, world.task(task).fence, "k" * 40, "s1"), machine("m1"))
    before = world.task(task)
    scope = f"task:{task}" if scope == "task" else scope

    close(world, scope, stop=True)
    asked = world.task(task)
    assert asked.stop_reason is StopReason.PAUSED
    assert asked.machine is not None
    assert Stop(asked.machine, task, asked.fence, StopReason.PAUSED) in world.effects
    world.tell(facts.Stopped(task, asked.fence), machine("m1"))

    back = world.task(task)
    assert (back.state, back.failures, back.checkpoint, back.session) == (
        *(TaskState.QUEUED, 0, "k" * 40, "s1"),
    )
    assert (back.start_tag, back.seq) == (before.start_tag, before.seq)
    assert len(world.pushed(task)) == 1
    lift(world, scope)
    assert len(world.pushed(task)) == 2


def test_a_silent_holder_is_stopped_by_not_coming_back() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.vanish("m1")

    close(world, "all", stop=True)
    world.machine("m1", held=[Held(task, fence, HeldStage.RUNNING)])

    assert (world.task(task).state, world.task(task).lost) == (TaskState.QUEUED, False)
    assert any(isinstance(effect, Stop) and effect.task == task for effect in world.effects)


def test_a_landing_is_not_stopped_by_a_pause() -> None:
    world = Pool()
    task = world.landing()

    close(world, "all", stop=True)

    assert (world.task(task).phase, world.task(task).stop_reason) == (Phase.LANDING, None)


def many_running(world: Pool) -> list[TaskId]:
    world.machine("m1", *(agent(f"a{n}", slots=64) for n in range(CASCADE_BATCH // 64 + 1)))
    return world.submit(*(f"t{n}" for n in range(CASCADE_BATCH + 5)))


def test_many_attempts_are_stopped_in_steps_that_a_restart_does_not_lose() -> None:
    world = Pool()
    tasks = many_running(world)
    pause = Fact(body=facts.Pause("all", paused=True, stop=True), actor=person("ann"))
    held = {task: world.task(task) for task in tasks}
    assert all(row.state.held for row in held.values())
    steps: list[int] = []
    perform = world._perform
    world._perform = lambda effects: steps.append(  # type: ignore[method-assign]  # what a crash loses
        sum(isinstance(effect, Stop) for effect in effects)
    )

    world.decide([pause])
    assert steps == [CASCADE_BATCH]
    assert any(table is Table.TODO for table, _ in world.rows)
    world._perform = perform  # type: ignore[method-assign]
    world.restart()

    assert all(world.task(task).stop_reason is StopReason.PAUSED for task in tasks)
    assert not any(table is Table.TODO for table, _ in world.rows)


def test_a_resume_ends_what_is_left_of_the_stopping() -> None:
    world = Pool()
    tasks = many_running(world)
    ann = person("ann")
    pause = facts.Pause("all", paused=True, stop=True)

    world.decide(
        [
            Fact(body=pause, actor=ann),
            Fact(body=msgspec.structs.replace(pause, reason="again"), actor=ann),
            Fact(body=facts.Pause("all", paused=False), actor=ann),
        ]
    )

    asked = [task for task in tasks if world.task(task).stop_reason is StopReason.PAUSED]
    assert len(asked) == len(tasks)
    assert not world.view.todos


@pytest.mark.parametrize("scope", ["", "everything", "pool:", "task", "project:a\nb", "x:y"])
def test_what_is_no_scope_is_refused(scope: str) -> None:
    with pytest.raises(InvalidInput, match="scope"):
        Pool().ask(facts.Pause(scope, paused=True))


@pytest.mark.parametrize("reason", ["x" * (REASON_CHARS + 1), "a\nb"])
def test_a_reason_is_bounded(reason: str) -> None:
    with pytest.raises(InvalidInput, match="reason"):
        Pool().ask(facts.Pause("all", paused=True, reason=reason))


def test_what_is_not_there_or_has_ended_cannot_be_paused() -> None:
    world = Pool()
    (task,) = world.submit("t")
    world.ask(facts.Cancel(task))

    with pytest.raises(IllegalTransition, match="cancelled cannot take a pause"):
        world.ask(facts.Pause(f"task:{task}", paused=True))
    for scope in ("task:none", "pool:other"):
        with pytest.raises(NotFound):
            world.ask(facts.Pause(scope, paused=True, stop=True))


def test_a_submitter_pauses_only_their_own_tasks() -> None:
    world = Pool()
    (task,) = world.submit("t", by="ann")
    body = facts.Pause(f"task:{task}", paused=True)

    with pytest.raises(NotFound):
        world.ask(body, person("eve", Role.SUBMITTER))
    assert world.ask(body, person("ann", Role.SUBMITTER)) == Done("paused")


# Stops ------------------------------------------------------------------------------------------


def stop(world: Pool, scope: str, reason: str = "odd") -> None:
    assert world.ask(facts.Pause(scope, paused=True, reason=reason, stop=True)) == Done("paused")


def test_a_stopped_agent_loses_its_work_to_others_and_gets_none_until_it_is_released() -> None:
    world = Pool()
    world.machine("m1", agent("a"))
    world.machine("m2", agent("b"))
    task = world.running(on="m1")
    assert world.task(task).agent == "a"

    stop(world, "agent:a")
    assert world.task(task).stop_reason is StopReason.PAUSED
    world.tell(facts.Stopped(task, world.task(task).fence), machine("m1"))

    assert world.task(task).agent == "b"
    (more,) = world.submit("more")
    assert world.task(more).state is TaskState.QUEUED
    lift(world, "agent:a")
    assert world.task(more).agent == "a"


def test_a_stopped_machine_is_told_to_stop_then_cut_off_and_not_let_in() -> None:
    world = Pool()
    world.machine("m1", agent("a"), agent("b"))
    task = world.running(on="m1")
    world.effects.clear()

    stop(world, "machine:m1")

    orders = [type(one).__name__ for one in world.effects if type(one).__name__ != "Answer"]
    assert "Stop" in orders
    assert "CloseConnection" not in orders  # it may say what it has saved
    assert world.task(task).stop_reason is StopReason.REVOKED
    world.vanish("m1")
    assert world.task(task).state is TaskState.QUEUED
    assert not world.task(task).lost
    with pytest.raises(NotAllowed, match="ann stopped the machine m1: odd; agentcom resume"):
        world.machine("m1", agent("a"))
    lift(world, "machine:m1")
    world.machine("m1", agent("a"))
    assert world.task(task).agent == "a"


def test_a_stop_names_the_machine_as_people_do() -> None:
    world = Pool()
    world.ask(facts.Enrol(MachineId("0190-id"), "build-7", UserId("ann")))

    stop(world, "machine:0190-id")

    pause = world.view.pauses["machine:0190-id"]
    assert (pause.words, pauses.lift(pause)) == (
        "ann stopped the machine build-7: odd",
        "agentcom resume --machine build-7",
    )


def test_what_lands_on_a_stopped_machine_is_stopped_too() -> None:
    world = Pool()
    task = world.landing()

    stop(world, "machine:m1")

    assert world.task(task).stop_reason is StopReason.REVOKED


def test_a_persons_work_stops_and_that_of_others_goes_on() -> None:
    world = Pool()
    world.machine("m1", agent("a", slots=2))
    mine = world.running("mine")
    eve = Identity(role=Role.SUBMITTER, user=UserId("eve"), credential="e")
    reply = world.ask(facts.Submit((TaskSpec(title="hers", prompt="p"),)), eve)
    assert isinstance(reply, Submitted)
    hers = reply.tasks[0]

    stop(world, "user:eve")

    assert world.task(hers).stop_reason is StopReason.PAUSED
    assert world.task(mine).stop_reason is None
    world.tell(facts.Stopped(hers, world.task(hers).fence), machine("m1"))
    world.restart()
    world.machine("m1", agent("a", slots=2), held=[world.holding(mine)])
    assert world.task(hers).state is TaskState.QUEUED
    lift(world, "user:eve")
    assert world.task(hers).agent == "a"


def test_a_stop_outlives_a_restart_and_says_why() -> None:
    world = Pool()
    world.machine("m1", agent("a"))
    stop(world, "agent:a")
    (task,) = world.submit("t")

    world.restart()
    world.machine("m1", agent("a"))

    why = world.ask(facts.Explain(task))
    assert isinstance(why, Explanation)
    assert [(rule.agent, rule.rule) for rule in why.agents] == [("a", "stopped")]
    assert "ann stopped the agent a: odd; agentcom resume --agent a" in why.agents[0].detail
    assert world.view.agent_state(world.view.agents[AgentId("a")]) is AgentState.QUARANTINED


@pytest.mark.parametrize("scope", ["agent:none", "machine:none"])
def test_nobody_stops_what_is_not_there(scope: str) -> None:
    with pytest.raises(NotFound):
        Pool().ask(facts.Pause(scope, paused=True, stop=True))


def test_a_machine_that_is_removed_takes_its_stop_along() -> None:
    world = Pool()
    world.machine("m1", agent("a"))
    stop(world, "machine:m1")

    world.ask(facts.RemoveMachine(MachineId("m1")))

    assert (Table.PAUSE, "machine:m1") not in world.rows
