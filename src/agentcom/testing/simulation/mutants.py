"""The planted bugs, each of which the simulation must catch within its hours.

`agentcom simulate --mutants` runs the list; a bug that survives is a hole in the checkers.
"""

from dataclasses import replace
from typing import Final

from agentcom.testing.simulation import planting
from agentcom.testing.simulation.mutants_asks import ASKS
from agentcom.testing.simulation.mutants_channels import CHANNELS
from agentcom.testing.simulation.mutants_landing import LANDING
from agentcom.testing.simulation.mutants_locks import LOCKS
from agentcom.testing.simulation.mutants_mail import MAIL
from agentcom.testing.simulation.mutants_scheduling import SCHEDULING
from agentcom.testing.simulation.planting import Change, Mutant

_REPORTS: Final = "agentcom.core.reports"
_LEASES: Final = "agentcom.core.leases"
_RECONCILE: Final = "agentcom.core.reconcile"
_HOLDING: Final = "agentcom.core.holding"
_ENGINE: Final = "agentcom.hub.engine"
_REQUESTS: Final = "agentcom.core.requests"
_LOADING: Final = "agentcom.core.loading"
_FAIRNESS: Final = "agentcom.core.fairness"
_TURN: Final = "agentcom.core.turn"
_CASCADES: Final = "agentcom.core.cascades"
_GRAPHS: Final = "agentcom.core.graphs"
_SUBTASKS: Final = "agentcom.core.subtasks"
_MACHINE: Final = "agentcom.sidecar.machine"
_ATTEMPTS: Final = "agentcom.sidecar.machine_attempts"
_VIEW: Final = "agentcom.core.view"
_ACCOUNTS: Final = "agentcom.core.accounts"
_WORLD: Final = "agentcom.testing.simulation.world"

MUTANTS: Final = (
    Mutant(
        "no fence",
        "a result of an old attempt counts as the newest one's",
        _REPORTS,
        "return task.state.held and task.machine == machine and _newest(task, fence)",
        "return task.state.held and task.machine == machine",
    ),
    Mutant(
        "no holder",
        "any machine may report on any attempt",
        _REPORTS,
        "return task.state.held and task.machine == machine and _newest(task, fence)",
        "return task.state.held and _newest(task, fence)",
    ),
    Mutant(
        "a stopped attempt's result counts",
        "work that was cancelled completes its task",
        _REPORTS,
        "    if task.stop_reason not in (None, StopReason.BUDGET, StopReason.ASKED):",
        "    if False:",
    ),
    Mutant(
        "stale results are dropped",
        "finished work that came too late is gone",
        _REPORTS,
        "    if isinstance(result, Result) and stored is None:",
        "    if isinstance(result, Result) and stored is None and task is None:",
    ),
    Mutant(
        "a repeat is stale",
        "a sidecar that asks again is told that its accepted result was refused",
        _REPORTS,
        "    repeat = isinstance(stored, KeptResult) and stored.applied\n",
        "    repeat = False\n",
    ),
    Mutant(
        "leases end early",
        "a task is given away while its holder may still act",
        "agentcom.core.parts",
        "self.expires_at = Instant(now + self.ttl_ms + self.margin_ms)",
        "self.expires_at = Instant(now + self.ttl_ms // 2)",
    ),
    Mutant(
        "no grace after a restart",
        "a hub that restarts gives away what its machines still run",
        _LEASES,
        "    grace_ms = _grace_ms(view)\n",
        "    grace_ms = 0\n",
    ),
    Mutant(
        "no wait after a restore",
        "a restored hub gives away what a holder unknown to it still runs",
        _LEASES,
        "    if left_ms <= 0 or min(",
        "    if left_ms <= 0 or True or min(",
        hours=120,
        often="restore",
    ),
    Mutant(
        "a restore stops the fleet",
        "attempts newer than the backup keep the hub from giving out any work",
        _RECONCILE,
        "item.fence > row.fence and item.fence.incarnation >= incarnation:",
        "item.fence > row.fence:",
        often="restore",
        seed=7,
    ),
    Mutant(
        "incarnation not raised at restore",
        "fences are given a second time",
        _WORLD,
        "incarnation = max(self.disk.incarnation + 1, self.hub.clock.now().wall // 1_000)",
        "incarnation = self.disk.incarnation",
        seed=5,
    ),
    Mutant(
        "reconcile forgets what is gone",
        "a task whose machine lost it stays running for ever",
        _RECONCILE,
        "        _append(orders.gone, task)",
        "        pass",
        seed=5,
    ),
    Mutant(
        "reconcile forgets pushes",
        "an assignment that was lost on the way blocks its agent",
        _RECONCILE,
        "        if not recent:\n",
        "        if False:\n",
        hours=120,
        seed=14,
    ),
    Mutant(
        "reconcile forgets grants",
        "a grant that was lost on the way blocks the base branch",
        _RECONCILE,
        "            _append(orders.land, task)",
        "            pass",
        seed=34,
    ),
    Mutant(
        "finished attempts are never told",
        "a machine keeps attempts of tasks that are over for ever",
        _ATTEMPTS,
        "Stage.READY: HeldStage.READY",
        "Stage.READY: HeldStage.FINISHED",
        hours=120,
        seed=28,
    ),
    Mutant(
        "double grant of a hold",
        "two machines land on one branch at once",
        _HOLDING,
        "    if not queue:\n        _grant_landing(ledger, task, key)",
        "    if True:\n        _grant_landing(ledger, task, key)",
        seed=30,
    ),
    Mutant(
        "a hold outlives its attempt",
        "a branch is locked by a task that is over",
        _HOLDING,
        '        drop_hold(ledger, task.id, f"land:{key}")\n',
        "        pass\n",
    ),
    Mutant(
        "landing timers pile up",
        "memory grows with every landing",
        _HOLDING,
        '        ledger.effects.append(ClearTimer(f"land/{task.id}"))\n',
        "",
        hours=120,
    ),
    Mutant(
        "slots are not given back",
        "an agent gets less and less work",
        _HOLDING,
        "    view.put(view.slots_used, agent, view.slots_used.get(agent, 0) + change)",
        "    view.put(view.slots_used, agent, view.slots_used.get(agent, 0) + max(change, 0))",
    ),
    Mutant(
        "priority inversion",
        "what is urgent waits for what is not",
        _FAIRNESS,
        "    return start_tag - priority * PRIORITY_STEP if priority else start_tag",
        "    return start_tag + priority * PRIORITY_STEP if priority else start_tag",
    ),
    Mutant(
        "last in, first out",
        "the oldest task starves",
        _FAIRNESS,
        "    return (0 if emergency else 1, order_tag(start_tag, priority), seq)",
        "    return (0 if emergency else 1, order_tag(start_tag, priority), -seq)",
    ),
    Mutant(
        "an attempt's number is given twice",
        "the fence does not tell an old attempt from the new one",
        _TURN,
        "task.attempt + 1",
        "max(task.attempt, 1)",
    ),
    Mutant(
        "dependencies do not wait",
        "a task starts though what it depends on has failed",
        _CASCADES,
        "    if not end.succeeded and edge.condition is Condition.SUCCESS:",
        "    if False:",
    ),
    Mutant(
        "a review by the author",
        "an agent judges its own work",
        _GRAPHS,
        "author=end.author, author_machine=end.author_machine",
        "author=None, author_machine=None",
    ),
    Mutant(
        "orphaned sub-tasks",
        "what an agent asked for goes on after its task was cancelled",
        _SUBTASKS,
        "    if task.id in turn.view.books.below:",
        "    if False:",
    ),
    Mutant(
        "effect before commit",
        "a machine starts what a power failure makes undone",
        _ENGINE,
        "        verdict = Committed(0) if plan.batch.empty else",
        "        self._outlet.perform(await self._bodies.attach(plan.effects))\n"
        "        verdict = Committed(0) if plan.batch.empty else",
    ),
    Mutant(
        "ack before commit",
        "a person is told that a task is stored, and it is not",
        _ENGINE,
        "        verdict = Committed(0) if plan.batch.empty else",
        "        for effect in plan.effects:\n"
        "            if isinstance(effect, _REPLIES):\n"
        "                self.resolve(effect)\n"
        "        verdict = Committed(0) if plan.batch.empty else",
    ),
    Mutant(
        "unknown means committed",
        "what the disk lost is taken for stored",
        "agentcom.hub.committing",
        "        if not await store.outcome(batch.id):\n            return Conflict(())\n",
        "",
        hours=120,
    ),
    Mutant(
        "a full disk keeps the plan",
        "memory holds what no disk has",
        _ENGINE,
        "            case Full():\n                view.discard()\n",
        "            case Full():\n                view.confirm()\n",
    ),
    Mutant(
        "a lost key",
        "a repeated request makes a second set of tasks",
        _REQUESTS,
        "    return (row.payload, bytes(row.reply)) if isinstance(row, RequestRecord) else None",
        "    return None",
    ),
    Mutant(
        "timers are not rebuilt",
        "after a restart what waits for a time waits for ever",
        _LOADING,
        "[*passing.load(view, now), *deadlines.timers(view, now)]",
        "[*passing.load(view, now)]",
        seed=5,
    ),
    Mutant(
        "a lease from the answer",
        "a machine believes in its lease for longer than the hub does",
        _MACHINE,
        "Instant(sent_at + view.ttl_ms)",
        "Instant(self.now + view.ttl_ms)",
        seed=59,
    ),
    Mutant(
        "a beat that hides the truth",
        "an order to stop that was lost leaves two holders",
        _MACHINE,
        "            if attempt is not None and attempt.stage is not Stage.STOPPING:\n",
        "            if False:\n",
        often="machine_sleep",
        among={"ttl_ms": 6_000, "lossy": True, "drop": 0.3},
        seed=19,
    ),
    Mutant(
        "an ack for anything",
        "the ack of a checkpoint makes a sidecar forget its result",
        _MACHINE,
        "        if attempt.stage is not ANSWERS.get(frame.of):",
        "        if attempt.stage not in REPORTS:",
    ),
    Mutant(
        "a lost outbox row",
        "a result that was not stored before it was sent dies with its sidecar",
        _ATTEMPTS,
        "        attempt.stored = False\n        self.order(values.Store(attempt.record))",
        "        self.report(attempt)",
    ),
    Mutant(
        "work before the record",
        "a sidecar that crashes does not know what it had begun",
        _MACHINE,
        "        self.order(values.Store(record))\n",
        "        self._begin(attempt)\n        self.order(values.Store(record))\n",
    ),
    Mutant(
        "an offer is enough",
        "results that a restored hub never got are not offered again",
        _MACHINE,
        '        if view.offered:\n            self.order(values.SetTimer("offers"',
        '        if False:\n            self.order(values.SetTimer("offers"',
        hours=120,
        often="restore",
    ),
    Mutant(
        "the canary is not alone",
        "at the reset of a quota the whole fleet runs into it again",
        _VIEW,
        "        return 0 if account.closed else min(1, free)",
        "        return 0 if account.parked_until is not None else min(1, free)",
    ),
    Mutant(
        "only one machine parks",
        "the other machines of an account run into its exhausted quota one by one",
        _ACCOUNTS,
        "            view.refresh(agent.id)\n            if wider:",
        "            view.refresh(agent.id)\n            if not wider:\n                return\n"
        "            if wider:",
        seed=5,
    ),
    Mutant(
        "a dead canary has no successor",
        "an account stays closed for ever since the machine died that tried it",
        _ACCOUNTS,
        "            _write(ledger, replace(row, canary=None), row)",
        "            pass",
        seed=5,
    ),
    Mutant(
        "an order to stop is told once",
        "an agent works on for hours after its task was cancelled, since one message was lost",
        _RECONCILE,
        "        elif task.stop_reason is not None:\n",
        "        elif False:\n",
        also=(
            Change(
                _REPORTS,
                "    if task.stop_reason is not None:\n        turn.effects.append(Stop(",
                "    if False:\n        turn.effects.append(Stop(",
            ),
        ),
    ),
    Mutant(
        "old attempts go on",
        "two attempts of one task run on one machine",
        _ATTEMPTS,
        "        if any(attempt.stage in LIVE for attempt in attempts):\n            return\n",
        "",
        often="agent_kill",
        seed=8,
    ),
    *SCHEDULING,
    *LANDING,
    *(replace(mutant, among={"locks": True}) for mutant in LOCKS),
    *(replace(mutant, among={"mail": True}) for mutant in MAIL),
    *(replace(mutant, among={"asks": True}) for mutant in ASKS),
    *(replace(mutant, among={"channels": True}) for mutant in CHANNELS),
)


def by_name(name: str) -> Mutant:
    """Return a mutant; raises `KeyError` if there is none of that name."""
    return {mutant.name: mutant for mutant in MUTANTS}[name]


def plant(name: str) -> None:
    """Plant a mutant in this process; an empty name plants none."""
    if name:
        planting.plant(by_name(name))
