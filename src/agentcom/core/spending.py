"""What agents spent, as their machines report it: each turn becomes one row, once.

A turn that comes twice is known by its key. One of an older attempt is money spent all the same:
it counts, and is marked as late. What a machine may report on is what it was once given.
"""

from collections.abc import Sequence

from agentcom.core import budgets, moves
from agentcom.core.effects import Counted, Stop
from agentcom.core.facts import Fact, Finished, Stopped, Used
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.agent import Agent
from agentcom.model.batch import Table, usage_key
from agentcom.model.budget import NOTHING, Amounts, of_turn, plus
from agentcom.model.errors import NotAllowed
from agentcom.model.event import EventKind
from agentcom.model.ids import AgentId, Fence, MachineId, UserId
from agentcom.model.limits import ORPHANS_MAX, TURNS_MAX
from agentcom.model.task import Phase, StopReason, Task
from agentcom.model.usage import TurnUsage, Usage, day_of, fitted

Spent = Used | Finished | Stopped


def wanted_turns(view: PoolView, _fact: Fact, body: Spent) -> Sequence[tuple[Table, str]]:
    """Return the rows that tell a turn that was counted, and whose it is."""
    keys = [
        (Table.USAGE, usage_key(body.task, body.fence, spent.turn))
        for spent in body.turns[:TURNS_MAX]
    ]
    return keys if body.task in view.tasks else [*keys, (Table.TASK, body.task)]


def count(turn: Turn, fact: Fact, machine: MachineId, body: Spent) -> None:
    """Write a row for each turn that has none yet.

    Raises:
        NotAllowed: this machine never had that attempt.
    """
    row = turn.view.tasks.get(body.task) or turn.row(Table.TASK, body.task, fact.found)
    task = row if isinstance(row, Task) else None
    spent_now = NOTHING
    for spent in body.turns[:TURNS_MAX]:
        key = usage_key(body.task, body.fence, spent.turn)
        if turn.row(Table.USAGE, key, fact.found) is not None:
            continue
        if spent_now is NOTHING:
            check_origin(turn, task, machine, body.fence)
        usage = _usage(turn, fact, machine, body, task, fitted(spent))
        turn.write(Table.USAGE, key, usage, None)
        turn.effects.append(Counted(usage))
        budgets.settle(turn, usage)
        spent_now = plus(spent_now, of_turn(usage))
    if spent_now is not NOTHING and task is not None and task.id in turn.view.tasks:
        spent_all = plus(task.spent or NOTHING, spent_now)
        turn.move(task, moves.Charged(spent_all), EventKind.CHARGED, _said(spent_now))


def enforce(turn: Turn, task: Task) -> None:
    """Ask a running attempt to end if a budget of its is used up."""
    if task.stop_reason is not None or task.phase is Phase.LANDING:
        return
    why = budgets.why_stop(turn.view, task)
    if why is not None:
        assert task.machine is not None
        turn.move(task, moves.StopAsked(StopReason.BUDGET), EventKind.STOP_ASKED, why)
        turn.effects.append(Stop(task.machine, task.id, task.fence, StopReason.BUDGET))


def _said(spent: Amounts) -> str:
    tokens = f"{spent.tokens:,} tokens"
    return f"{tokens}, ${spent.cost_micros / 1_000_000:.2f}" if spent.cost_micros else tokens


def _usage(
    turn: Turn,
    fact: Fact,
    machine: MachineId,
    body: Spent,
    task: Task | None,
    spent: TurnUsage,
) -> Usage:
    mine = task is not None and task.fence == body.fence and task.machine == machine
    cost = None if spent.included else turn.view.prices.cost(spent)
    agent = _agent(turn.view, machine, spent.agent)
    return Usage(
        task=body.task,
        fence=body.fence,
        turn=spent.turn,
        project=fact.actor.project if task is None else task.project,
        submitter=UserId("") if task is None else task.submitter,
        agent=AgentId("") if agent is None else agent.id,
        account=None if agent is None else agent.account,
        model=spent.model,
        runtime=spent.runtime,
        input=spent.input,
        cached=spent.cached,
        written=spent.written,
        output=spent.output,
        cost_micros=cost,
        included=spent.included,
        unpriced=cost is None and not spent.included,
        wall_ms=spent.wall_ms,
        at=turn.now.wall,
        day=day_of(turn.now.wall),
        late=not mine,
    )


def _agent(view: PoolView, machine: MachineId, named: AgentId) -> Agent | None:
    """Return the agent that a machine names, if it is the machine's own."""
    agent = view.agents.get(named)
    return agent if agent is not None and agent.machine == machine else None


def check_origin(turn: Turn, task: Task | None, machine: MachineId, fence: Fence) -> None:
    """Refuse a report of an attempt that this machine never had.

    Attempts of an earlier incarnation may be missing in a restored store: those are believed.

    Raises:
        NotAllowed: it was never issued, or to another machine, or there were too many.
    """
    if fence.attempt < 1:
        raise NotAllowed("this attempt was never issued")
    if task is None:
        _count_orphan(turn, machine)
        return
    held = dict(task.holders)
    if task.machine is not None:
        held[task.fence] = task.machine
    holder = held.get(fence)
    if holder is not None and holder != machine:
        raise NotAllowed("this attempt belongs to another machine")
    if holder is None and fence.incarnation >= turn.view.incarnation:
        raise NotAllowed("this attempt was never issued to this machine")


def _count_orphan(turn: Turn, machine: MachineId) -> None:
    orphans = turn.view.orphans
    orphaned = orphans.get(machine, 0) + 1
    if orphaned > ORPHANS_MAX:
        raise NotAllowed("too many results of tasks that this hub does not know")
    turn.view.put(orphans, machine, orphaned)
