"""Why a task is where it is, in words."""

import msgspec
import pytest

from agentcom.core import facts, lock_facts
from agentcom.model.errors import NotFound
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Dependency
from agentcom.model.ids import AgentId, MachineId, TaskId, WallTime
from agentcom.model.limit import Limit
from agentcom.model.limits import QUARANTINE_FAILURES, RESTART_GRACE_MS
from agentcom.model.replies import Explanation, LockTold, Submitted
from agentcom.model.task import TaskSpec, TaskState, Wait
from agentcom.testing.world import TTL_MS, agent, machine, person
from tests.core.acts import Pool, done, failed, merging
from tests.core.quota_acts import ANN, account, parked, quota, tried, working


def why(world: Pool, task: TaskId) -> Explanation:
    reply = world.ask(facts.Explain(task))
    assert isinstance(reply, Explanation)
    return reply


def rules(world: Pool, task: TaskId) -> dict[str, str]:
    return {rule.agent: rule.rule for rule in why(world, task).agents}


def test_without_agents_it_says_how_to_add_one() -> None:
    world = Pool()
    (task,) = world.submit("t")

    assert "agentcom up" in why(world, task).next_action


def test_it_names_the_needs_that_nobody_meets() -> None:
    world = Pool()
    world.machine("m1", agent("ada", "python"))
    (task,) = world.submit(TaskSpec(title="t", prompt="p", needs=("python", "gpu")))

    answer = why(world, task)

    assert answer.missing == ("gpu",)
    assert [(r.agent, r.rule) for r in answer.agents] == [("ada", "needs")]
    assert "it lacks gpu" in answer.agents[0].detail


def test_it_names_for_each_agent_the_rule_that_keeps_it_away() -> None:
    world = Pool()
    for name in ("busy", "paused", "draining", "offline", "removed", "suspect"):
        world.machine(name)
        world.now_ms += 1
    world.ask(facts.PauseAgent(AgentId("paused"), paused=True))
    world.ask(facts.DrainMachine(MachineId("draining"), draining=True))
    world.tell(facts.MachineDisconnected(MachineId("offline"), 4))
    world.ask(facts.RemoveMachine(MachineId("removed")))
    world.view.sessions[MachineId("suspect")].suspect = True
    world.view.refresh(AgentId("suspect"))
    world.submit("runs")
    (task,) = world.submit("waits")

    assert rules(world, task) == {
        name: name for name in ("busy", "paused", "draining", "offline", "removed", "suspect")
    }
    assert why(world, task).summary == "5 agents could run it, none is free"
    assert why(world, task).position == 1


def test_who_left_the_fleet_can_run_nothing_and_a_submit_says_so() -> None:
    world = Pool()
    world.machine("m1", agent("ada", "gpu"))
    world.machine("m2", agent("bob"))
    world.ask(facts.RemoveMachine(MachineId("m1")))

    told = world.ask(facts.Submit((TaskSpec(title="t", prompt="p", needs=("gpu",)),)))

    assert isinstance(told, Submitted)
    (task,) = told.unschedulable
    answer = why(world, task)
    assert answer.summary == "no agent can run it: it needs gpu, prompt"
    assert rules(world, task) == {"ada": "removed", "bob": "needs"}


def test_an_agent_that_became_another_is_none_of_the_old_kind() -> None:
    world = Pool()
    world.machine("m1", agent("ada", "gpu"))
    world.machine("m1", agent("ada", "tpu"))
    (task,) = world.submit(TaskSpec(title="t", prompt="p", needs=("gpu",)))

    answer = why(world, task)

    assert answer.summary == "no agent can run it: it needs gpu, prompt"
    assert answer.missing == ("gpu",)


def test_an_agent_that_its_machine_has_no_more_is_absent() -> None:
    world = Pool()
    world.machine("m1", "ada", "bob")
    world.machine("m1", "bob")
    world.submit("runs")
    (task,) = world.submit("waits")

    assert rules(world, task) == {"ada": "absent", "bob": "busy"}


def test_one_agent_and_one_dependency_are_spoken_of_as_one() -> None:
    world = Pool()
    running = world.running()
    (queued,) = world.submit("waits")
    (after,) = world.submit(TaskSpec(title="t", prompt="p", depends_on=(Dependency(running),)))

    assert why(world, queued).summary == "1 agent could run it, and is not free"
    assert why(world, queued).next_action == "it starts as soon as that one is free"
    assert why(world, after).summary == f"1 dependency has not ended: {running[-6:]} is running"


def test_a_start_time_counts_beside_dependencies_until_it_is_over() -> None:
    world = Pool()
    running = world.running()
    later = WallTime(world.now.wall + 5_000)
    spec = TaskSpec(title="t", prompt="p", depends_on=(Dependency(running),), not_before=later)
    (task,) = world.submit(spec)

    before = why(world, task)
    world.advance(6_000)
    after = why(world, task)

    assert (before.next_action, before.next_at) == (
        "it starts after that, and not before then",
        later,
    )
    assert (after.next_action, after.next_at) == ("it starts after that", None)


def test_it_says_when_nothing_will_change_by_itself() -> None:
    world = Pool()
    world.machine("m1", agent("one"))
    world.machine("m2", agent("two"))
    world.ask(facts.PauseAgent(AgentId("one"), paused=True))
    world.ask(facts.DrainMachine(MachineId("m2"), draining=True))
    (task,) = world.submit("t")

    assert why(world, task).next_action.startswith("this does not pass by itself")


def test_a_failed_check_leads_to_what_it_printed() -> None:
    world = Pool()
    task = world.running(failures_max=1)
    world.finish(task, failed(failure=FailureClass.VERIFICATION))

    assert f"agentcom task results {task} --checks" in why(world, task).next_action


def test_a_cancelled_task_says_why_it_was_cancelled() -> None:
    world = Pool()
    running = world.running()
    (queued,) = world.submit("waits")
    for task in (running, queued):
        world.ask(facts.Cancel(task, "no longer needed"))
    world.tell(facts.Stopped(running, world.task(running).fence), machine("m1"))

    for task in (running, queued):
        assert why(world, task).summary == "it is cancelled: no longer needed"


def test_what_failed_before_is_not_why_a_task_is_cancelled() -> None:
    world = Pool()
    task = world.running()
    world.tell(facts.Finished(task, world.task(task).fence, failed()), machine("m1"))
    world.ask(facts.Cancel(task))

    assert why(world, task).summary == "it is cancelled"


def test_a_store_that_is_older_than_the_fleet_gives_out_nothing() -> None:
    world = Pool()
    world.machine("m1")
    world.view.beyond[MachineId("m1")] = None
    (task,) = world.submit("t")

    assert "older than the fleet, says machine m1" in why(world, task).summary
    assert "agentcom machine rm m1" in why(world, task).next_action
    assert rules(world, task) == {"m1": "order"}


def test_a_restored_hub_says_until_when_it_gives_out_nothing() -> None:
    world = Pool()
    world.machine("m1")
    world.restore()
    world.machine("m1")
    (task,) = world.submit("t")

    world.advance(1_000)

    assert "the hub was restored" in why(world, task).summary
    assert why(world, task).next_at == world.now.wall + RESTART_GRACE_MS - 1_000


def test_it_names_the_dependencies_that_have_not_ended() -> None:
    world = Pool()
    first, second = world.running(), world.running(on="m2")
    depends = (Dependency(first), Dependency(second))
    (third,) = world.submit(TaskSpec(title="t", prompt="p", depends_on=depends))
    world.finish(first)

    assert why(world, third).blocked_by == (second,)


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        (Wait.RETRY, "attempt 1 ended: it broke"),
        (Wait.QUOTA, "quota is used up"),
        (Wait.APPROVAL, "a person must look at it: tests deleted"),
    ],
)
def test_it_says_what_an_ended_attempt_waits_for(wait: Wait, words: str) -> None:
    world = Pool()
    results = {
        Wait.RETRY: failed(),
        Wait.QUOTA: failed(failure=FailureClass.QUOTA),
        Wait.APPROVAL: done(needs_person=("tests deleted",)),
    }
    task = world.running()
    world.finish(task, results[wait])

    answer = why(world, task)

    assert words in answer.summary
    assert answer.next_at == world.task(task).until


def test_it_says_when_a_task_starts() -> None:
    world = Pool()
    start = WallTime(world.now.wall + 5_000)
    (task,) = world.submit(TaskSpec(title="t", prompt="p", not_before=start))

    assert why(world, task).next_at == start


def test_it_has_words_for_a_task_that_waits_for_nothing_known() -> None:
    world = Pool()
    task = world.running()
    row = world.finish(task, done(needs_person=("which one?",)))
    other = msgspec.structs.replace(row, wait=None)
    world.view.tasks[task] = world.rows["task", task] = other  # type: ignore[index]  # a table's name is its text

    turn = facts.Fact(body=facts.Explain(task), reply_to=1)
    world.view.confirm()
    super(Pool, world).decide([turn])

    answer = world.replies[1]
    assert isinstance(answer, Explanation)
    assert answer.summary == "it waits"


def test_it_says_when_an_attempt_would_be_stopped() -> None:
    world = Pool()
    task = world.running()

    answer = why(world, task)

    assert answer.summary == "attempt 1 is preparing on m1"
    assert answer.next_at == world.task(task).deadline_at


def test_it_says_when_a_silent_machine_loses_its_attempt() -> None:
    world = Pool()
    task = world.running()
    world.ask(facts.Cancel(task))
    world.advance(TTL_MS // 2)

    answer = why(world, task)

    assert "asked to stop (cancelled); its machine is silent" in answer.summary
    assert answer.next_at == world.now.wall + 3 * TTL_MS // 4


def test_it_says_how_many_land_before() -> None:
    world = Pool()
    first, second = world.landing(), world.landing()

    assert why(world, first).summary.endswith("its base is its own")
    assert why(world, second).summary.endswith("1 landings before it")


def test_it_says_how_a_task_ended() -> None:
    world = Pool()
    plain, checked = world.running(), None
    world.finish(plain)
    checked = world.running()
    world.finish(checked, merging())
    world.land(checked)
    broken = world.running(failures_max=1)
    world.finish(broken, failed())
    (cancelled,) = world.submit(TaskSpec(title="t", prompt="p", needs=("gpu",)))
    world.ask(facts.Cancel(cancelled))

    assert "unverified" in why(world, plain).summary
    assert why(world, checked).summary == "it is completed (verified)"
    assert why(world, broken).summary == "it is failed (agent): it broke"
    assert why(world, cancelled).summary == "it is cancelled"
    assert why(world, cancelled).next_action == f"agentcom task retry {cancelled}"


def test_what_does_not_exist_cannot_be_why() -> None:
    with pytest.raises(NotFound):
        why(Pool(), TaskId("none"))


def test_a_full_limit_is_named_with_who_runs_under_it() -> None:
    world = Pool()
    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=1)))
    world.machine("m1", agent("a1", slots=4))
    keyed = TaskSpec(title="t", prompt="p", keys=("db",))
    _, second, third = world.submit(keyed, keyed, keyed)

    shown = why(world, third)

    assert shown.summary == "the limit of key:db is full: 1 of 1 run"
    assert shown.position == 2
    assert why(world, second).position == 1


def test_files_in_use_are_named_with_their_holder() -> None:
    world = Pool()
    world.machine("m1", agent("a1", slots=4))
    claim = TaskSpec(title="t", prompt="p", scope=("src/**",))
    first, second = world.submit(claim, claim)

    assert why(world, second).summary == f"its files (src/**) are in use by {first}"


def test_a_machine_with_too_little_left_says_what_is_used() -> None:
    world = Pool()
    world.machine("m1", agent("a1", slots=4), resources={"cpu": 2})
    uses = TaskSpec(title="t", prompt="p", uses={"cpu": 2})
    _, second = world.submit(uses, uses)

    (rule,) = why(world, second).agents
    assert (rule.rule, rule.detail) == ("resources", "machine m1 has too little left: cpu 2 used")


def test_what_no_agent_has_is_named_also_for_resources() -> None:
    world = Pool()
    world.machine("m1", resources={"cpu": 2})
    (task,) = world.submit(TaskSpec(title="t", prompt="p", needs=("gpu",), uses={"cpu": 3}))

    assert why(world, task).missing == ("gpu", "cpu=3")


def test_a_queued_task_has_an_estimate_by_what_such_work_took() -> None:
    world = Pool()
    first = world.running()
    world.advance(8_000)
    world.finish(first)
    world.submit("second")
    _, fourth = world.submit("third", "fourth")

    shown = why(world, fourth)

    assert shown.position == 2
    assert shown.starts_at == world.now.wall + 2 * 8_000


def test_there_is_no_estimate_where_nothing_ran_yet_or_nobody_can() -> None:
    world = Pool()
    world.machine("m1")
    _, second = world.submit("first", "second")
    (impossible,) = world.submit(TaskSpec(title="t", prompt="p", needs=("gpu",)))

    assert why(world, second).starts_at is None
    assert why(world, impossible).starts_at is None


def test_why_names_the_account_and_when_it_is_tried() -> None:
    world, first = parked("m1")
    (task,) = world.submit("a")
    row = account(world)
    assert row is not None

    said = why(world, task)

    assert [rule.rule for rule in said.agents] == ["quota"]
    assert said.agents[0].detail == f"account {ANN} is out of quota until 2023-11-14 23:13:21 UTC"
    assert said.summary == said.agents[0].detail
    assert said.next_at == row.parked_until
    assert "one attempt is tried then" in said.next_action
    assert why(world, first).summary == f"account {ANN} is out of quota: it broke"


def test_why_names_the_attempt_that_tries() -> None:
    world, canary = tried()
    (task, *_) = [t.id for t in world.view.tasks.values() if t.state is TaskState.QUEUED]

    said = why(world, task)

    assert said.agents[0].rule == "quota"
    assert said.summary == f"account {ANN} was out of quota, and task {canary.id} tries it"
    assert said.next_at is None


def test_why_tells_the_first_of_several_resets() -> None:
    world, _ = parked("m1")
    world.machine("m2", agent("a-m2", account="openai:bob"))
    bob = working(world)
    world.finish(bob, quota(world, 60_000))

    said = why(world, world.submit("a")[0])

    assert said.summary.count("is out of quota until") == 2
    assert said.next_at == world.now.wall + 60_000


def test_a_running_attempt_says_whose_lock_it_waits_for() -> None:
    world = Pool()
    task = world.running()
    mine = world.ask(lock_facts.AcquireLock(globs=("deploy",), ttl_ms=60_000), person("ann"))
    fence = world.task(task).fence
    world.ask(lock_facts.AcquireLock(globs=("deploy",), task=task, fence=fence), machine("m1"))

    assert isinstance(mine, LockTold)
    words = f"; it waits to lock deploy: user:ann ({mine.lock.words})"
    assert why(world, task).summary.endswith(words)


def test_a_running_attempt_says_what_it_changed_and_who_changes_the_same() -> None:
    world = Pool()
    world.machine("m1", agent("a1", slots=4))
    spec = TaskSpec(title="t", prompt="p", repo="https://git.example/r.git")
    first, second = world.submit(spec, spec)
    for task in (first, second):
        world.accept(task)
        saved = facts.Checkpointed(task, world.task(task).fence, "k" * 40, touched=("src/a.py",))
        world.tell(saved, machine("m1"))

    summary = why(world, first).summary
    assert "; 1 path is changed so far; " in summary
    assert summary.endswith(f"also touches src/a.py: task {second}")


@pytest.mark.parametrize(
    ("scope", "words", "cure"),
    [
        ("all", "ann paused everything: upgrade", "agentcom resume --all"),
        ("project:default", "ann paused the project default: upgrade", "--project default"),
        ("pool:default", "ann paused the pool default: upgrade", "agentcom resume --pool default"),
    ],
)
def test_it_says_who_paused_what_and_how_to_go_on(scope: str, words: str, cure: str) -> None:
    world = Pool()
    world.machine("m1")
    world.ask(facts.Pause(scope, paused=True, reason="upgrade"))
    (task,) = world.submit("t")

    found = why(world, task)

    assert found.summary == words
    assert found.position == 1
    assert [rule.rule for rule in found.agents] == ["task_paused"]
    assert found.next_action.endswith(cure) or cure in found.next_action


def test_a_pause_of_its_own_is_told_of_a_task_that_waits_for_something_else_too() -> None:
    world = Pool()
    (first,) = world.submit("first")
    (task,) = world.submit(TaskSpec(title="t", prompt="p", depends_on=(Dependency(first),)))
    world.ask(facts.Pause(f"task:{task}", paused=True))

    found = why(world, task)

    assert found.summary.endswith("and ann paused the task")
    assert found.next_action.endswith(f"agentcom task resume {task}")


def test_it_names_the_quarantine_of_an_agent_and_its_cure() -> None:
    world = Pool()
    world.machine("m1")
    for _ in range(QUARANTINE_FAILURES):
        (task,) = world.submit("t")
        world.accept(task)
        world.finish(task, failed(failure=FailureClass.AUTH))
    (task,) = world.submit("next")

    found = why(world, task)

    (rule,) = found.agents
    assert rule.rule == "quarantined"
    assert rule.detail.endswith("agentcom agent resume m1")
    assert found.next_action.startswith("this does not pass by itself")


def test_it_says_when_an_agent_in_quarantine_tries_again() -> None:
    world = Pool()
    for name in ("m1", "m2"):
        world.machine(name)
    (busy,) = world.submit("busy")
    other = "m1" if world.task(busy).agent == "m2" else "m2"
    for _ in range(QUARANTINE_FAILURES):
        (task,) = world.submit("t")
        world.accept(task)
        world.finish(task, failed(failure=FailureClass.CRASHED))
    (task,) = world.submit("next")

    found = why(world, task)

    rule = next(rule for rule in found.agents if rule.agent == other)
    assert rule.rule == "trial"
    assert "it tries one task at " in rule.detail
    assert "does not pass by itself" not in found.next_action
