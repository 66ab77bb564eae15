"""Random histories of a pool: whatever happens, in whatever order, the invariants hold."""

import contextlib
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from agentcom.core import facts, lock_facts, waits
from agentcom.core.effects import Notify, Push, Stop
from agentcom.core.turn import DEADLINES
from agentcom.model.agent import Held, HeldStage
from agentcom.model.batch import Table, usage_key
from agentcom.model.budget import Budget, Period
from agentcom.model.bulk import BulkAct
from agentcom.model.edit import TaskEdit
from agentcom.model.errors import AgentComError
from agentcom.model.failure import FailureClass, OnQuota
from agentcom.model.graph import Approval, Condition, Dependency, OnFailure, ReviewBy
from agentcom.model.ids import DEFAULT_PROJECT, AgentId, Fence, MachineId, TaskId, WallTime
from agentcom.model.limit import Limit
from agentcom.model.lock import LockId
from agentcom.model.replies import Explanation, Submitted
from agentcom.model.result import KeptResult, Landing, LandStatus, Result, ResultStatus
from agentcom.model.task import LandPolicy, Phase, Task, TaskSpec, TaskState
from agentcom.model.usage import TurnUsage
from agentcom.model.verification import CheckResult, Report
from agentcom.testing import invariants
from agentcom.testing.world import World, agent, machine, person

SEEDS = range(60)
STEPS = 250


class History:
    """Draws one act after another; `held` is what each machine really has."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(seed)
        self.held: dict[str, dict[tuple[TaskId, Fence], HeldStage]] = {}
        self.known: list[TaskId] = []
        self.seen = 0
        self.accepted: dict[TaskId, Fence] = {}
        self.newest: dict[TaskId, Fence] = {}
        self.completed: dict[TaskId, Task] = {}
        self.applied: set[str] = set()
        self.account: dict[str, str | None] = {"m1": "shared", "m2": "shared", "m3": None}
        self.spends = seed % 2 == 1
        """Every other history has budgets, and agents that tell what they spend."""
        self.turns = 0
        self.counted: set[str] = set()
        self.numbers: dict[LockId, int] = {}
        """The numbers of all locks that were ever held."""

    def run(self, steps: int) -> None:
        acts = [
            self.connect,
            self.submit,
            self.submit,
            self.work,
            self.work,
            self.work,
            self.pass_time,
            self.cancel,
            self.retry,
            self.drop,
            self.beat,
            self.late,
            self.restart,
            self.refuse,
            self.pause,
            self.quota,
            self.overtaken,
            self.together,
            self.operate,
            self.full,
            self.limit,
            self.subtasks,
            self.decide,
            self.cancel_group,
            *([self.spend, self.spend, self.budget] if self.spends else []),
            self.close,
            self.open,
            self.open,
            self.edit,
            self.act_on_many,
            self.lock,
            self.lock,
            self.unlock,
            self.explain,
        ]
        for _ in range(steps):
            act = self.rng.choice(acts)
            with contextlib.suppress(AgentComError):  # a refusal is an answer
                act()
            self.read_effects()
            invariants.check(self.world.view, self.world.rows)
            self.check_promises()

    def check_promises(self) -> None:
        """What no picture of one moment shows: what was before counts too."""
        world = self.world
        for name, held in world.view.held_by.items():
            assert not held or f"lease/{name}" in world.timers, f"nobody watches {name}"
        for task in world.view.tasks.values():
            waits = task.phase is Phase.LANDING and task.id not in world.view.first_landings()
            watch = f"land/{task.id}" if task.phase is Phase.LANDING else DEADLINES
            timer = world.timers.get(watch)
            assert not task.state.held or waits or task.stop_reason or timer, task
            if timer and watch == DEADLINES and task.deadline_at and not task.stop_reason:
                in_time = timer.at - world.now_ms <= max(0, task.deadline_at - world.now.wall)
                assert in_time, f"the timer comes after the deadline of {task}"
            timed = task.state is TaskState.WAITING and task.until and task.wait != "dependencies"
            assert not timed or f"wait/{task.id}" in world.timers, task
            watched = task.expires_at is not None and not task.state.held
            assert not watched or f"start/{task.id}" in world.timers, task
        for account in world.view.accounts.values():
            timer = world.timers.get(f"account/{account.id}")
            assert timer or account.parked_until is None, f"nobody opens {account}"
        for task_id in self.known:
            row, known = world.task(task_id), self.newest.get(task_id, Fence(0, 0))
            assert row.fence >= known, "a fence went back"
            self.newest[task_id] = row.fence
            if task_id in self.completed:
                assert row == self.completed[task_id], "what is completed changed"
            elif row.state is TaskState.COMPLETED:
                self.completed[task_id] = row
        for key, kept in world.rows.items():
            if isinstance(kept, KeptResult) and kept.applied:
                self.applied.add(key[1])
        rows = sorted(key for table, key in world.rows if table is Table.USAGE)
        assert rows == sorted(self.counted), "a turn that was told is lost, or counts twice"
        self.check_locks()
        lost = [key for key in self.applied if (Table.RESULT, key) not in world.rows]
        assert not lost, "an applied result is gone"

    def check_locks(self) -> None:
        """A number that was given is never given again, nor one below it."""
        newest = max(self.numbers.values(), default=0)
        for lock in self.world.view.gates.locks.rows.values():
            timer = self.world.timers.get("locks")
            assert lock.expires_at is None or timer, f"nobody ends {lock}"
            if lock.granted_at is not None and lock.id not in self.numbers:
                assert lock.number > newest, f"{lock} has an old number"
                self.numbers[lock.id] = lock.number
            assert self.numbers.get(lock.id, 0) == lock.number, "a number changed"

    def lock(self) -> None:
        """A person, or the agent of an attempt (perhaps one that is over), asks for a lock."""
        rng = self.rng
        globs = rng.choice([("src/**",), ("src/a.py", "docs/x"), ("docs/*",), ("**",)])
        body = lock_facts.AcquireLock(
            globs=globs,
            repo=rng.choice(["", "https://git.example/r.git"]),
            shared=rng.random() < 0.3,
            ttl_ms=rng.choice([5_000, 60_000, 1_000_000]),
            queue_ms=rng.choice([None, 500_000]),
        )
        held = [(m, t, f) for m, mine in self.held.items() for t, f in mine]
        if held and rng.random() < 0.7:
            name, task, fence = rng.choice(held)
            ttl_ms = rng.choice([None, 60_000])
            body = msgspec.structs.replace(body, task=task, fence=fence, ttl_ms=ttl_ms)
            self.world.ask(body, machine(name))
        else:
            self.world.ask(body, person(rng.choice(["ann", "bob", "cy"])))

    def unlock(self) -> None:
        locks = list(self.world.view.gates.locks.rows.values())
        if locks:
            force = self.rng.random() < 0.4
            body = lock_facts.ReleaseLock(lock=self.rng.choice(locks).id, force=force)
            self.world.ask(body, person(self.rng.choice(["ann", "bob", "cy"])))

    def explain(self) -> None:
        """Whatever stands where it stands can be explained, and the picture be drawn."""
        world = self.world
        drawn = waits.picture(world.view, DEFAULT_PROJECT)
        for task in list(world.view.tasks.values()):
            said = world.ask(facts.Explain(task.id), person("ann"))
            assert isinstance(said, Explanation)
            assert said.summary, task
            assert not said.summary.startswith("0 "), said
            assert said.next_action, said
            for at in said.next_at, said.starts_at:
                assert at is None or at >= world.now.wall, said
            if task.state is TaskState.QUEUED and said.agents and not said.missing:
                self.names_what_is_shut(task, said)
        assert all(wait.task in world.view.tasks for wait in drawn.waits), drawn

    def names_what_is_shut(self, task: Task, said: Explanation) -> None:
        gates = self.world.view.gates
        shut = [found[0] for g in gates.gates_of(task) if (found := gates.blocker(g, task))]
        unable = "no agent can" in said.summary or not self.world.view.issuing
        assert unable or all(words in said.summary for words in shut), (shut, said)

    def overtaken(self) -> None:
        """A holder whose task was issued again gets nothing applied any more."""
        for name, mine in self.held.items():
            for task, fence in mine:
                row = self.world.task(task)
                if row.fence > fence:
                    kept = len(self.world.results(task))
                    self.world.tell(facts.Finished(task, fence, self.result()), machine(name))
                    assert self.world.task(task) == row, "an overtaken holder changed its task"
                    assert len(self.world.results(task)) >= kept
                    return

    def together(self) -> None:
        """Several reports of one attempt, and a cancel, in one batch."""
        held = [(m, t, f) for m, mine in self.held.items() for t, f in mine]
        if held:
            name, task, fence = self.rng.choice(held)
            who = machine(name)
            body = facts.Finished(task, fence, self.result())
            batch = [
                facts.Fact(body=body, actor=who),
                facts.Fact(body=facts.Cancel(task), actor=person("ann")),
                facts.Fact(body=facts.Landed(task, fence, Landing(status=LandStatus.LANDED)),
                           actor=who),
                facts.Fact(body=body, actor=who),
                facts.Fact(body=facts.Stopped(task, fence, self.result()), actor=who),
                facts.Fact(body=facts.Retry(task), actor=person("ann")),
            ]  # fmt: skip
            self.world.decide(self.rng.sample(batch, self.rng.randint(1, len(batch))))

    def operate(self) -> None:
        """Someone drains, resumes or removes a machine; a removed one is enrolled anew."""
        name = MachineId(self.rng.choice(["m1", "m2", "m3"]))
        self.world.ask(facts.DrainMachine(name, self.rng.random() < 0.3))

    def scope(self) -> str:
        scopes = ["all", "pool:default", "project:default"]
        scopes += [f"task:{task}" for task in self.known[-3:]]
        return self.rng.choice(scopes)

    def close(self) -> None:
        scope, stop = self.scope(), self.rng.random() < 0.5
        self.world.ask(facts.Pause(scope, paused=True, stop=stop))
        if scope in self.world.view.pauses:  # all that there is has one project and one pool
            before = {task: self.world.task(task).attempt for task in self.known}
            self.connect()
            self.submit()
            after = {task: self.world.task(task).attempt for task in before}
            assert after == before, "what is paused got an attempt"

    def open(self) -> None:
        """Resume something: mostly what is paused, or nothing would ever run."""
        for scope in list(self.world.view.pauses):
            if self.rng.random() < 0.8:
                self.world.ask(facts.Pause(scope, paused=False))
        self.world.ask(facts.PauseAgent(AgentId(f"a-m{self.rng.randint(1, 3)}"), paused=False))
        self.world.ask(facts.Pause(self.scope(), paused=False))

    def edit(self) -> None:
        if not self.known:
            return
        task = self.rng.choice(self.known)
        later = WallTime(self.world.now.wall + self.rng.choice([-1, 5_000, 60_000]))
        change = self.rng.choice(
            [
                TaskEdit(priority=self.rng.randint(-3, 3)),
                TaskEdit(needs=self.rng.choice([(), ("gpu",), ("tpu",)]), prompt="new"),
                TaskEdit(not_before=self.rng.choice([None, later])),
                TaskEdit(emergency=self.rng.random() < 0.5, title="new"),
            ]
        )
        self.world.ask(facts.Edit(task, self.world.task(task).version, change))

    def act_on_many(self) -> None:
        some = self.rng.sample(self.known, min(len(self.known), 5))
        states = self.rng.choice([(), (TaskState.FAILED,), (TaskState.QUEUED,)])
        act = self.rng.choice(list(BulkAct))
        body = facts.ActOnMany(act, (*some, TaskId("none")), states)
        self.world.decide([facts.Fact(body=body, actor=person("ann"))])

    def full(self) -> None:
        """Reports whose batch found no room come again."""
        name = self.rng.choice(["m1", "m2", "m3"])
        session = self.world.view.sessions.get(MachineId(name))
        if session is not None:
            beat = facts.Heartbeat(session.number, tuple(self.report(name)))
            check = facts.LeaseChecked(MachineId(name))
            batch = [facts.Fact(body=beat, actor=machine(name)), facts.Fact(body=check)]
            self.world.decide(batch, commit=False)
            self.world.decide(batch)

    def read_effects(self) -> None:
        for effect in self.world.effects[self.seen :]:
            if isinstance(effect, Push) and self.rng.random() < 0.9:
                mine = self.held.setdefault(effect.machine, {})
                a = effect.assignment
                mine.setdefault((a.task, a.fence), HeldStage.STORED)
                newest = self.accepted.get(a.task)
                assert newest is None or a.fence >= newest, "a fence went back"
                self.accepted[a.task] = a.fence
            if isinstance(effect, Stop) and self.rng.random() < 0.7:
                mine = self.held.get(effect.machine, {})
                mine.pop((effect.task, effect.fence), None)
                stopped = facts.Stopped(effect.task, effect.fence)
                self.world.tell(stopped, machine(effect.machine))
        self.seen = len(self.world.effects)

    def report(self, name: str) -> Sequence[Held]:
        return [Held(t, f, stage) for (t, f), stage in self.held.get(name, {}).items()]

    def connect(self) -> None:
        name = self.rng.choice(["m1", "m2", "m3"])
        caps = {"m1": ("python",), "m2": ("python", "gpu"), "m3": ()}[name]
        slots = self.rng.choice([1, 2])
        account = self.account[name]
        if self.rng.random() < 0.02:
            account = self.account[name] = self.rng.choice([None, "shared", "own"])
        spec = agent(f"a-{name}", *caps, slots=slots, account=account)
        if self.rng.random() < 0.2:
            accepts = self.rng.choice([("submitter=ann",), ("kind!=review",), ("project=default",)])
            spec = msgspec.structs.replace(spec, accepts=accepts)
        resources = self.rng.choice([{}, {"cpu": 2}, {"cpu": 3, "db": 1}])
        self.world.machine(name, spec, held=self.report(name), resources=resources)

    def limit(self) -> None:
        """Someone sets a limit or takes it away, while things run."""
        scope = self.rng.choice(
            ["submitter:ann", "submitter:*", "key:a", "key:*", "project:default", "repo:*"]
        )
        if self.rng.random() < 0.4:
            self.world.ask(facts.DropLimit(scope))
        elif self.rng.random() < 0.3:
            rate = Limit(scope=scope, rate=self.rng.randint(1, 3), per_ms=60_000)
            self.world.ask(facts.SetLimit(rate))
        else:
            limit = Limit(scope=scope, concurrency=self.rng.choice([0, 1, 2]))
            self.world.ask(facts.SetLimit(limit))

    def submit(self) -> None:
        specs = []
        for n in range(self.rng.randint(1, 4)):
            depends = [
                Dependency(
                    self.rng.choice(self.known),
                    self.rng.choice(list(Condition)),
                    self.rng.choice(list(OnFailure)),
                    children=self.rng.random() < 0.3,
                )
                for _ in range(self.rng.choice([0, 0, 1, 2]))
                if self.known
            ]
            if n and self.rng.random() < 0.5:
                depends.append(Dependency(f"r{n - 1}"))
            spec = TaskSpec(
                title="t",
                prompt="p",
                ref=f"r{n}",
                priority=self.rng.randint(-2, 2),
                emergency=self.rng.random() < 0.1,
                on_quota=self.rng.choice(list(OnQuota)),
                depends_on=tuple(depends),
                **self.placed(),
                group=self.rng.choice([None, None, "g1", "g2"]),
                budget=Budget(turns=3) if self.spends and self.rng.random() < 0.2 else None,
                start_by=self.start_by(),
            )
            if self.rng.random() < 0.2:
                of = f"r{n - 1}" if n else self.rng.choice([*self.known, None])
                by = self.rng.choice(list(ReviewBy))
                spec = msgspec.structs.replace(spec, reviews=of, review_by=by)
            elif self.rng.random() < 0.1:
                spec = msgspec.structs.replace(
                    spec, approval=Approval.PERSON, needs=(), emergency=False
                )
            specs.append(spec)
        key = self.rng.choice([None, f"k{self.rng.randint(0, 30)}"])
        self.known += self.world.submit(*specs, by=self.rng.choice(["ann", "bob"]), key=key)

    def placed(self) -> dict[str, Any]:
        """Return what some tasks ask of their place."""
        needs = self.rng.choice([(), ("python",), ("gpu",), ("python", "gpu")])
        fields: dict[str, Any] = {"needs": needs}
        if self.rng.random() < 0.3:
            fields["keys"] = self.rng.choice([("a",), ("b",), ("a", "b")])
        if self.rng.random() < 0.2:
            fields["uses"] = self.rng.choice([{"cpu": 1}, {"cpu": 2}, {"db": 1}])
        if self.rng.random() < 0.3:
            fields["repo"] = "https://git.example/r.git"
            fields["scope"] = self.rng.choice([("src/**",), ("src/a.py",), ("docs/*",), ("**",)])
            fields["scope_shared"] = self.rng.random() < 0.3
        if self.rng.random() < 0.2:
            named = ["agent!=a-m1", "machine=m2", "agent in (a-m1,a-m3)"]
            fields["needs"] = (*needs, self.rng.choice(named))
        if self.rng.random() < 0.2:
            fields["prefers"] = self.rng.choice([("gpu*3",), ("spread",), ("machine=m3",)])
        if self.rng.random() < 0.2:
            fields["kind"] = "review"
        return fields

    def subtasks(self) -> None:
        """The agent of some attempt asks for more, perhaps one that is over."""
        held = [(m, t, f) for m, mine in self.held.items() for t, f in mine]
        if held:
            name, task, fence = self.rng.choice(held)
            depends = [Dependency(self.rng.choice(self.known), children=self.rng.random() < 0.5)]
            spec = TaskSpec(
                title="s",
                prompt="p",
                depends_on=tuple(depends) if self.rng.random() < 0.4 else (),
                priority=self.rng.randint(-2, 2),
            )
            asked = facts.Submit((spec,) * self.rng.randint(1, 3), task, fence)
            reply = self.world.ask(asked, machine(name))
            assert isinstance(reply, Submitted)
            self.known += reply.tasks

    def decide(self) -> None:
        waits = [t for t in self.world.view.tasks.values() if t.approval and t.wait == "approval"]
        if waits:
            self.world.ask(facts.Decide(self.rng.choice(waits).id, self.rng.random() < 0.6))

    def cancel_group(self) -> None:
        if self.rng.random() < 0.2:
            self.world.ask(facts.CancelGroup(self.rng.choice(["g1", "g2", "g3"])))

    def start_by(self) -> WallTime | None:
        """Few tasks expire, some of them soon."""
        if self.rng.random() < 0.8:
            return None
        return WallTime(self.world.now.wall + self.rng.choice([100, 20_000, 500_000]))

    def work(self) -> None:
        held = [(m, t, f) for m, mine in self.held.items() for t, f in mine]
        if not held:
            return
        name, task, fence = self.rng.choice(held)
        who = machine(name)
        stage = self.held[name][task, fence]
        if stage is HeldStage.STORED:
            self.held[name][task, fence] = HeldStage.RUNNING
            self.world.tell(facts.Accepted(task, fence), who)
        elif stage is HeldStage.RUNNING and self.rng.random() < 0.3:
            touched = self.rng.choice([(), ("src/a.py",), ("docs/x", "src/b"), ("other",)])
            note = self.rng.choice([None, "so far so good"])
            saved = facts.Checkpointed(task, fence, "k" * 40, note=note, touched=touched)
            for effect in self.world.tell(saved, who):
                if isinstance(effect, Notify):
                    other = self.world.task(effect.task)
                    assert other.state.held, "told of what is over"
                    assert (other.fence, other.machine) == (effect.fence, effect.machine)
        elif stage is HeldStage.RUNNING:
            self.held[name][task, fence] = HeldStage.FINISHED
            self.world.tell(facts.Finished(task, fence, self.result()), who)
            row = self.world.view.tasks.get(task)
            if row is None or row.fence != fence or row.state is not TaskState.RUNNING:
                del self.held[name][task, fence]
        else:
            del self.held[name][task, fence]
            landing = Landing(status=self.rng.choice(list(LandStatus)), commit="l" * 40)
            self.world.tell(facts.Landed(task, fence, landing), who)

    def spend(self) -> None:
        """A machine tells a turn, new or known, of an attempt that it has, or had."""
        held = [(m, t, f) for m, mine in self.held.items() for t, f in mine]
        if not held:
            return
        name, task, fence = self.rng.choice(held)
        self.turns += 1
        turn = TurnUsage(
            turn=self.rng.choice([self.turns, 1]),
            agent=AgentId(f"a-{name}"),
            input=self.rng.choice([10, 100_000, 1_000_000]),
        )
        body = facts.Used(task, fence, (turn,))
        before = len(self.world.acks(task))
        self.world.tell(body, machine(name))
        if len(self.world.acks(task)) > before:
            self.counted.add(usage_key(task, fence, turn.turn))

    def budget(self) -> None:
        scope = self.rng.choice(["project:default", "submitter:ann", "agent:a-m1"])
        limits = Budget(
            tokens=self.rng.choice([None, 300_000, 5_000_000]), turns=self.rng.choice([2, 9, 40])
        )
        given = None if self.rng.random() < 0.3 else limits
        self.world.ask(facts.SetBudget(scope, self.rng.choice(list(Period)), given))

    def result(self) -> Result:
        passed = self.rng.random() < 0.8
        report = Report(commit="c", checks=(CheckResult(name="t", passed=passed),))
        return self.rng.choice(
            [
                Result(
                    status=ResultStatus.DONE,
                    commit="c",
                    report=report,
                    land_key="r#main",
                    land=LandPolicy.MERGE,
                ),
                Result(status=ResultStatus.DONE, commit="c", report=report),
                Result(status=ResultStatus.DONE, commit="c", needs_person=("tests deleted",)),
                Result(status=ResultStatus.FAILED, failure=self.rng.choice(list(FailureClass))),
                Result(status=ResultStatus.PARKED, failure=FailureClass.QUOTA),
            ]
        )

    def pass_time(self) -> None:
        self.world.advance(self.rng.choice([100, 4_000, 11_000, 30_000, 400_000, 4_000_000]))

    def cancel(self) -> None:
        if self.known:
            self.world.ask(facts.Cancel(self.rng.choice(self.known)))

    def retry(self) -> None:
        if not self.known:
            return
        task = self.rng.choice(self.known)
        kept = self.world.results(task)
        if kept and self.rng.random() < 0.5:
            one = self.rng.choice(kept)
            self.world.ask(facts.Adopt(task, one.fence, one.machine))
        else:
            self.world.ask(facts.Retry(task))

    def drop(self) -> None:
        name = self.rng.choice(["m1", "m2", "m3"])
        session = self.world.view.sessions.get(MachineId(name))
        if session is not None and session.connection is not None:
            self.world.tell(facts.MachineDisconnected(MachineId(name), session.connection))
        if self.rng.random() < 0.3:
            self.held.pop(name, None)

    def beat(self) -> None:
        name = self.rng.choice(["m1", "m2", "m3"])
        if MachineId(name) in self.world.view.sessions:
            self.world.beat(name, self.report(name))

    def late(self) -> None:
        """A report from an attempt that is long over, or was never there."""
        if self.known:
            task = self.rng.choice(self.known)
            row = self.world.task(task)
            fence = Fence(row.incarnation, self.rng.randint(0, row.attempt))
            who = machine(self.rng.choice(["m1", "m2", "m3"]))
            if (task, fence) not in self.held.get(who.machine or "", {}):
                self.world.tell(facts.Finished(task, fence, self.result()), who)

    def restart(self) -> None:
        if self.rng.random() < 0.3:
            self.world.restart()

    def refuse(self) -> None:
        """A batch that found no room leaves no trace."""
        before = dict(self.world.view.tasks)
        spec = TaskSpec(title="t", prompt="p")
        fact = facts.Fact(body=facts.Submit((spec, spec)), actor=person("ann"))
        self.world.decide([fact], commit=False)
        assert self.world.view.tasks == before

    def quota(self) -> None:
        """A canary shows life, or a person knows of quota."""
        for row in list(self.world.view.accounts.values()):
            if row.canary is not None and self.rng.random() < 0.5:
                lived = facts.CanaryLived(row.canary.task, row.canary.fence)
                self.world.tell(lived, machine(self.world.task(row.canary.task).machine or ""))
            elif self.rng.random() < 0.1:
                self.world.ask(facts.ResumeAccount(row.id))

    def pause(self) -> None:
        self.world.ask(
            facts.PauseAgent(AgentId(f"a-m{self.rng.randint(1, 2)}"), self.rng.random() < 0.5)
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_invariants_hold_after_every_step_of_a_random_history(seed: int) -> None:
    History(seed).run(STEPS)
