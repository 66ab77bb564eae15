"""What agents ask of the hub through their machine: sent until it is answered. Pure.

The request key is made of the task and the agent's own name for it, so whatever is asked twice is
done once, by a restarted sidecar or by the next attempt: the second one gets the same answer.
"""

from typing import Final

from agentcom.model.errors import NotAllowed, Stale
from agentcom.model.ids import Instant
from agentcom.protocol import frames
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_attempts import REPORT_RETRY_MS, RUNNING, AttemptTurn

ASKED_MAX: Final = 256
"""Questions of one machine that have no answer yet."""


def take(turn: AttemptTurn, fact: values.Asked) -> None:
    """Pass on what an agent asks for, if its attempt is under way."""
    view = turn.view
    attempt = view.attempts.get(fact.key)
    if attempt is None or attempt.stage not in RUNNING:
        refused = frames.ErrorFrame(code=Stale.code, message="this attempt is about to end")
        turn.order(values.Answered(fact.key, fact.name, refused))
        return
    if len(view.asked) >= ASKED_MAX:
        refused = frames.ErrorFrame(code=NotAllowed.code, message="too much is asked at once")
        turn.order(values.Answered(fact.key, fact.name, refused))
        return
    view.asked[request_key(fact)] = fact
    _send(turn, fact)


def again(turn: AttemptTurn) -> None:
    """Ask once more: on a new link, or since there is no answer for too long."""
    for fact in turn.view.asked.values():
        _send(turn, fact)


def answered(turn: AttemptTurn, frame: frames.ReplyFrame | frames.ErrorFrame) -> bool:
    """Hand on an answer, unless the hub only wants it later; return whether it was one."""
    fact = turn.view.asked.get(frame.key or "")
    if fact is None:
        return False
    if isinstance(frame, frames.ReplyFrame):
        turn.order(values.Answered(fact.key, fact.name, frame.reply))
    elif frame.code in _LATER:
        return True
    else:
        turn.order(values.Answered(fact.key, fact.name, frame))
    del turn.view.asked[frame.key or ""]
    return True


def request_key(fact: values.Asked) -> str:
    """Return the key under which the hub knows a question."""
    return f"sub/{fact.key.task}/{fact.name}"


_LATER: Final = frozenset({"rate_limited", "unavailable", "storage_full", "timeout"})
"""Refusals that time cures: the timer asks again."""


def _send(turn: AttemptTurn, fact: values.Asked) -> None:
    frame = frames.SubmitFrame(
        key=request_key(fact), tasks=fact.tasks, parent=fact.key.task, fence=fact.key.fence
    )
    turn.send(frame)
    turn.order(values.SetTimer("reports", Instant(turn.now + REPORT_RETRY_MS)))
