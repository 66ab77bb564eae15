"""Open questions: their rows, their one timer each, and whom they keep.

A question that is open is in the view. One of an agent keeps its task: for `ASK_HOLD_MS` the
attempt and its slot, then the task alone, which waits. What people and agents may do to one:
`core/asking.py`.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from agentcom.core import moves
from agentcom.core.ask_facts import AskDue
from agentcom.core.effects import ClearTimer, Effect, SetTimer, TellAsk
from agentcom.core.ledger import Ledger
from agentcom.core.view import PoolView
from agentcom.model import address
from agentcom.model.address import Address
from agentcom.model.ask import Ask, AskId, AskState
from agentcom.model.batch import Table
from agentcom.model.ids import Instant, Now, WallTime, utc
from agentcom.model.limits import ASK_HOLD_MS, TITLE_CHARS
from agentcom.model.task import Task, Wait

replace: Final = msgspec.structs.replace


def put(ledger: Ledger, ask: Ask) -> None:
    """Open a question."""
    ledger.write(Table.ASK, ask.id, ask, None)
    ledger.view.put(ledger.view.asks, ask.id, ask)
    ledger.effects.append(TellAsk(ask))


def end(
    ledger: Ledger, ask: Ask, state: AskState, answer: str = "", by: Address | None = None
) -> Ask:
    """Close a question for good, and return it as it is then."""
    ended = replace(
        ask,
        state=state,
        answer=answer,
        answered_by=by,
        ended_at=ledger.now.wall,
        version=ask.version + 1,
    )
    ledger.write(Table.ASK, ask.id, ended, ask.version)
    ledger.view.drop(ledger.view.asks, ask.id)
    ledger.effects += (ClearTimer(_key(ask.id)), TellAsk(ended))
    return ended


def parked(task: Task, session: str | None, note: str | None) -> moves.Parked:
    """Return what becomes of an attempt that ended without a word of the answer."""
    return moves.Parked(Wait.ANSWER if task.asks else None, None, "", session=session, note=note)


def words(view: PoolView, task: Task) -> tuple[str, str, WallTime | None]:
    """Return whom the agents of a task ask what, what to do, and when the first deadline is."""
    asks = [view.asks[ask] for ask in task.asks]
    summary = "; ".join(_words(ask, task) for ask in asks)
    action = f"agentcom ask answer {asks[0].id} TEXT; it goes on in the session of its agent"
    return summary, action, min(ask.deadline_at for ask in asks if ask.deadline_at is not None)


def _words(ask: Ask, task: Task) -> str:
    whom = ask.to or address.of_user(task.submitter)
    text = " ".join(ask.question.split())
    shown = (
        text if len(text) <= TITLE_CHARS else text[: TITLE_CHARS - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )
    return f"{ask.asker} has asked {whom} since {utc(ask.at)}: {shown}"


def over(ledger: Ledger, task: Task) -> None:
    """Withdraw the questions of a task that has ended; `task` is how it was before."""
    for ask_id in task.asks:
        end(ledger, ledger.view.asks[ask_id], AskState.WITHDRAWN)


def timers(view: PoolView, now: Now) -> Sequence[Effect]:
    """Return the timers of stored questions; also after the wall clock was set."""
    return [timer_of(view, ask, now) for ask in view.asks.values()]


def timer_of(view: PoolView, ask: Ask, now: Now) -> SetTimer:
    """Return the timer for what comes next: the end of its attempt's patience, or its own."""
    assert ask.deadline_at is not None
    at = ask.deadline_at
    if keeps_slot(view, ask):
        at = min(at, patience_ends(ask, now.wall))
    return SetTimer(_key(ask.id), Instant(now.instant + max(0, at - now.wall)), AskDue(ask.id))


def keeps_slot(view: PoolView, ask: Ask) -> bool:
    """Return whether the attempt that asked still waits for the answer, unasked to stop."""
    task = view.tasks.get(ask.task) if ask.task is not None else None
    return (
        task is not None
        and task.state.held
        and task.fence == ask.fence
        and task.stop_reason is None
    )


def patience_ends(ask: Ask, wall: WallTime) -> WallTime:
    """Return until when an attempt waits; also if the clock was set back since."""
    return WallTime(min(ask.at, wall) + ASK_HOLD_MS)


def is_patience_over(ask: Ask, wall: WallTime) -> bool:
    """Return whether an attempt has waited long enough when its timer fires.

    A question from later than now says nothing: the clock was set back, and the timer alone counts.
    """
    return ask.at > wall or patience_ends(ask, wall) <= wall


def _key(ask: AskId) -> str:
    return f"ask/{ask}"
