"""Accounts whose quota is used up: they park until the reset, and then one attempt tries.

A provider counts what an account uses, whatever agent or machine uses it. So one exhausted attempt
parks its account, and no agent of it gets work (`PoolView.free_slots`). At the reset one attempt,
the canary, goes out; when it shows life the account is open, and its row is gone.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from agentcom.core import moves
from agentcom.core.due_facts import AccountDue
from agentcom.core.effects import ClearTimer, Effect, SetTimer
from agentcom.core.facts import ResumeAccount
from agentcom.core.ledger import Ledger
from agentcom.core.view import PoolView
from agentcom.model import limits
from agentcom.model.agent import Account, Canary
from agentcom.model.batch import Table
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.failure import OnQuota
from agentcom.model.ids import AccountId, Instant, Now, WallTime
from agentcom.model.replies import Done
from agentcom.model.requirement import PROMPT
from agentcom.model.result import Result
from agentcom.model.task import Phase, Task, TaskState, Wait

replace: Final = msgspec.structs.replace


def check_name(account: AccountId | None) -> None:
    """Refuse what cannot be part of a row's key; raises `InvalidInput`."""
    if account is None:
        return
    if not account or len(account) > limits.ACCOUNT_CHARS or not account.isprintable():
        rule = f"1 to {limits.ACCOUNT_CHARS} characters, none a control"
        raise InvalidInput("account", rule)


def of_task(view: PoolView, task: Task) -> AccountId | None:
    """Return the account whose quota the newest attempt of `task` uses."""
    agent = view.agents.get(task.agent) if task.agent is not None else None
    return None if agent is None else agent.account


def timers(view: PoolView, now: Now) -> Sequence[Effect]:
    """Return the timers of stored resets; also after the wall clock was set."""
    parked = [row for row in view.accounts.values() if row.parked_until is not None]
    return [_timer(row, now) for row in parked]


# A quota that is used up --------------------------------------------------------------------------


def exhausted(ledger: Ledger, task: Task, result: Result) -> moves.Parked:
    """Park the account of an attempt that found no quota; return what becomes of its task."""
    until = note(ledger, task, result)
    reason = result.message[: limits.REASON_CHARS]
    account = of_task(ledger.view, task)
    moves_on = account is not None and task.on_quota is OnQuota.MOVE
    if moves_on and _others_can(ledger.view, task, account):
        return moves.Parked(None, None, reason, session=result.session)
    return moves.Parked(Wait.QUOTA, until, reason, session=result.session)


def note(ledger: Ledger, task: Task, result: Result) -> WallTime:
    """Park the account of an attempt that found no quota; return when to try again."""
    view, wall = ledger.view, ledger.now.wall
    stated = result.resets_at if result.resets_at and result.resets_at > wall else None
    account = of_task(view, task)
    known = view.accounts.get(account) if account is not None else None
    if account is None:
        return _until(wall, stated, strikes=1)
    if known is None:
        until = _until(wall, stated, strikes=1)
        return _park(ledger, Account(id=account), None, result, until)
    canary = known.canary is not None and known.canary == Canary(task.id, task.fence)
    strikes = known.strikes + canary
    until = _until(wall, stated, strikes=strikes)
    if known.parked_until is not None:  # an attempt from before the park
        until = max(until if stated else known.parked_until, known.parked_until)
    elif not canary and stated is None:
        return until  # the canary is the newer witness
    row = replace(known, canary=None, strikes=strikes)
    return _park(ledger, row, known, result, until)


def _until(wall: WallTime, stated: WallTime | None, *, strikes: int) -> WallTime:
    """Return when to try again: at the stated reset, else ever later, and never too soon again."""
    again = min(strikes, 16) - 1
    if stated is None:
        pause = min(limits.QUOTA_RETRY_MAX_MS, limits.QUOTA_RETRY_MS << again)
    else:
        least = min(limits.RETRY_MAX_MS, limits.RETRY_BASE_MS << again) if again else 0
        pause = min(limits.QUOTA_PARK_MAX_MS, max(least, stated - wall))
    return WallTime(wall + pause)


def _park(
    ledger: Ledger, row: Account, before: Account | None, result: Result, until: WallTime
) -> WallTime:
    row = replace(row, parked_until=until, reason=result.message[: limits.REASON_CHARS])
    _write(ledger, row, before)
    ledger.effects.append(_timer(row, ledger.now))
    return until


def _others_can(view: PoolView, task: Task, account: AccountId | None) -> bool:
    """Return whether an agent that does not use `account` could run `task`."""
    classes = view.shapes.compatible_classes(view.shape_of(task))
    for agent in view.agents.values():
        machine = view.machines.get(agent.machine)
        here = machine is not None and not machine.removed and not agent.absent
        if here and agent.account != account and classes >> view.class_of[agent.id] & 1:
            return True
    return False


# The reset, and the attempt that tries ------------------------------------------------------------


def due(ledger: Ledger, row: Account) -> None:
    """Let one attempt try an account if its reset has come."""
    view = ledger.view
    if row.parked_until is None:
        return
    left_ms = row.parked_until - ledger.now.wall
    if 0 < left_ms <= limits.QUOTA_PARK_MAX_MS:  # beyond that the clock was set back
        ledger.effects.append(_timer(row, ledger.now))
    elif any(agent.account == row.id for agent in view.agents.values()):
        _write(ledger, replace(row, parked_until=None), row)
    else:
        _open(ledger, row)


def follow(ledger: Ledger, before: Task | None, after: Task) -> None:
    """Have the canary of an account follow its task; a closed account exists."""
    if before is not None and before.state.held:
        row = _tried_by(ledger.view, before)
        if row is not None and _shows_life(before, after):
            _open(ledger, row)
        elif row is not None:  # it ended without a word about the quota: another one tries
            _write(ledger, replace(row, canary=None), row)
    elif after.state.held:
        account = of_task(ledger.view, after)
        row = ledger.view.accounts.get(account) if account is not None else None
        if row is not None and not row.closed:
            _write(ledger, replace(row, canary=Canary(after.id, after.fence)), row)


def lived(ledger: Ledger, task: Task) -> None:
    """Open the account that the attempt of `task` tries: it spends tokens, or calls tools."""
    row = _tried_by(ledger.view, task)
    if row is not None and _uses_model(task):
        _open(ledger, row)


def resume(ledger: Ledger, body: ResumeAccount) -> Done:
    """Open an account because a person says so; raises `NotFound`."""
    view = ledger.view
    row = view.accounts.get(body.account)
    if row is not None:
        _open(ledger, row)
    elif all(agent.account != body.account for agent in view.agents.values()):
        raise NotFound(f"no agent uses an account {body.account}")
    return Done("resumed")


def _tried_by(view: PoolView, task: Task) -> Account | None:
    name = Canary(task.id, task.fence)
    return next((row for row in view.accounts.values() if row.canary == name), None)


def _shows_life(before: Task, after: Task) -> bool:
    """Return whether the end of an attempt shows that the model answered it."""
    if not _uses_model(before) or before.stop_reason is not None:
        return False
    if after.state is TaskState.COMPLETED or after.phase is Phase.LANDING:
        return True
    failed = after.failures > before.failures and before.phase is not Phase.PREPARING
    return failed or after.wait is Wait.APPROVAL


def _uses_model(task: Task) -> bool:
    return PROMPT in task.needs and not task.landing_only


# Rows ---------------------------------------------------------------------------------------------


def _open(ledger: Ledger, row: Account) -> None:
    _write(ledger, None, row)
    ledger.effects.append(ClearTimer(f"account/{row.id}"))
    ledger.again(AccountDue(row.id))


def _write(ledger: Ledger, after: Account | None, before: Account | None) -> None:
    """Store what is known of an account, and have its agents follow."""
    view = ledger.view
    known = before or after
    assert known is not None
    if after is None:
        ledger.write(Table.ACCOUNT, known.id, None, old=known.version)
        view.drop(view.accounts, known.id)
    elif before is None:
        view.put(view.accounts, known.id, ledger.insert(Table.ACCOUNT, known.id, after))
    else:
        after = replace(after, version=before.version + 1)
        ledger.write(Table.ACCOUNT, known.id, after, old=before.version)
        view.put(view.accounts, known.id, after)
    if _room(after) != _room(before):
        _look_again(ledger, known.id, wider=_room(after) > _room(before))


def _room(row: Account | None) -> int:
    """Return how far an account is open: wholly, for one attempt, or not at all."""
    if row is None:
        return 2
    return 0 if row.closed else 1


def _look_again(ledger: Ledger, account: AccountId, *, wider: bool) -> None:
    view = ledger.view
    for agent in view.agents.values():
        if agent.account == account:
            view.refresh(agent.id)
            if wider:
                ledger.ready(agent.id)


def _timer(row: Account, now: Now) -> SetTimer:
    assert row.parked_until is not None
    left_ms = min(max(0, row.parked_until - now.wall), limits.QUOTA_PARK_MAX_MS)
    return SetTimer(f"account/{row.id}", Instant(now.instant + left_ms), AccountDue(row.id))
