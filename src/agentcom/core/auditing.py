"""What the audit log says of the facts that people bring: which act it was, and on what.

Titles, prompts, reasons and messages stay out of it: what people write may hold anything.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from agentcom.core import facts, lock_facts, review_facts
from agentcom.core.facts import Fact
from agentcom.core.ledger import Ledger
from agentcom.model.audit import AuditNote
from agentcom.model.bulk import BulkAct
from agentcom.model.pause import ALL
from agentcom.model.policy import AUDITED, Action

Told = tuple[Action, str, dict[str, str]]
"""The act, what it was done to, and what else is worth keeping."""

_PAUSES: Final = {
    "task": Action.TASK_PAUSE,
    "project": Action.PROJECT_PAUSE,
    "user": Action.PROJECT_PAUSE,
    "agent": Action.AGENT_PAUSE,
    "machine": Action.MACHINE_REMOVE,
    "pool": Action.POOL_PAUSE,
    ALL: Action.POOL_PAUSE,
}


def note(ledger: Ledger, fact: Fact) -> None:
    """Have a fact that was done recorded with what it did, if the table says so."""
    describe = DESCRIBED.get(type(fact.body))
    if describe is None:
        return
    action, target, detail = describe(fact.body)
    actor, origin = fact.actor, fact.origin
    if action not in AUDITED or origin is None:
        return
    ledger.audits[id(fact)] = AuditNote(
        at=ledger.now.wall,
        action=action.value,
        target=target,
        who=actor.name,
        role=actor.role,
        credential=actor.credential,
        address=origin.address,
        door=origin.door,
        cause=fact.cause,
        detail=detail,
    )


def _pause(body: facts.Pause) -> Told:
    action = _PAUSES[body.scope.partition(":")[0]]
    return action, body.scope, {"set": _onoff(body.paused), "stop": _onoff(body.stop)}


def _many(body: facts.ActOnMany) -> Told:
    action = Action.TASK_CANCEL if body.act is BulkAct.CANCEL else Action.TASK_RETRY
    return action, f"tasks:{len(body.tasks)}", {"first": body.tasks[0]} if body.tasks else {}


def _limit(body: facts.SetLimit) -> Told:
    limit = body.limit
    given = {"concurrency": limit.concurrency, "rate": limit.rate, "weight": limit.weight}
    told = {name: str(value) for name, value in given.items() if value is not None}
    return Action.LIMIT_SET, limit.scope, told


def _budget(body: facts.SetBudget) -> Told:
    told = {"period": body.period.value, "set": _onoff(body.limits is not None)}
    return Action.BUDGET_SET, body.scope, told


def _onoff(value: bool) -> str:
    return "yes" if value else "no"


DESCRIBED: Final[Mapping[type[facts.Body], Callable[[Any], Told]]] = MappingProxyType(
    {
        facts.Cancel: lambda body: (Action.TASK_CANCEL, f"task:{body.task}", {}),
        facts.CancelGroup: lambda body: (Action.TASK_CANCEL, f"group:{body.name}", {}),
        facts.ActOnMany: _many,
        facts.Adopt: lambda body: (
            Action.TASK_ADOPT,
            f"task:{body.task}",
            {"attempt": str(body.fence.attempt)},
        ),
        review_facts.LandAsked: lambda body: (Action.TASK_ADOPT, f"task:{body.task}", {}),
        facts.Decide: lambda body: (
            Action.TASK_APPROVE,
            f"task:{body.task}",
            {"approved": _onoff(body.approved)},
        ),
        facts.Pause: _pause,
        facts.PauseAgent: lambda body: (
            Action.AGENT_PAUSE,
            f"agent:{body.agent}",
            {"set": _onoff(body.paused)},
        ),
        facts.ResumeAccount: lambda body: (Action.AGENT_PAUSE, f"account:{body.account}", {}),
        facts.DrainMachine: lambda body: (
            Action.MACHINE_DRAIN,
            f"machine:{body.machine}",
            {"set": _onoff(body.draining)},
        ),
        facts.RemoveMachine: lambda body: (Action.MACHINE_REMOVE, f"machine:{body.machine}", {}),
        facts.PassOn: lambda body: (
            Action.USER_REMOVE,
            f"user:{body.user}",
            {"tasks_to": str(body.to)},
        ),
        facts.GiveMachine: lambda body: (
            Action.USER_REMOVE,
            f"machine:{body.machine}",
            {"to": str(body.owner)},
        ),
        facts.SetLimit: _limit,
        facts.DropLimit: lambda body: (Action.LIMIT_SET, body.scope, {"set": "no"}),
        facts.SetBudget: _budget,
        lock_facts.ReleaseLock: lambda body: (
            Action.LOCK_BREAK,
            f"lock:{body.lock}",
            {},
        ),
    }
)
"""Every fact that the table may have recorded."""
