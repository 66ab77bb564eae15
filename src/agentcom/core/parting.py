"""Cutting off a machine that a person has stopped: its connection is open as long as it must be.

What it saves of its attempts shall be known here, so it may still report how they end. It is
closed when the last has, or when the time for it is over; a new connection is refused at once.
"""

from typing import Final

from agentcom.core.due_facts import CutOffDue
from agentcom.core.effects import CloseConnection, SetTimer
from agentcom.core.turn import Turn
from agentcom.model.ids import Instant, MachineId
from agentcom.model.limits import STOP_CONFIRM_MS
from agentcom.model.pause import machine_scope

CLOSE_SHUT_OUT: Final = 4403
"""WebSocket close code: this identity may not come in, for now."""


def begin(turn: Turn, machine: MachineId) -> None:
    """Cut a machine off that was just stopped: now, if it has nothing, or soon."""
    session = turn.view.sessions.get(machine)
    if session is None or session.connection is None:
        return
    if not turn.view.held_by.get(machine):
        close(turn, machine)
        return
    at = Instant(turn.now.instant + STOP_CONFIRM_MS)
    due = CutOffDue(machine, session.connection)
    turn.effects.append(SetTimer(f"cut-off/{machine}", at, due))


def confirmed(turn: Turn, machine: MachineId) -> None:
    """Cut a machine off if it was stopped, and has confirmed all that it was told to stop."""
    if machine_scope(machine) in turn.view.pauses and not turn.view.held_by.get(machine):
        close(turn, machine)


def due(turn: Turn, body: CutOffDue) -> None:
    """Wait no longer, unless the stop was lifted, or another connection has come since."""
    session = turn.view.sessions.get(body.machine)
    same = session is not None and session.connection == body.connection
    if same and machine_scope(body.machine) in turn.view.pauses:
        close(turn, body.machine)


def close(turn: Turn, machine: MachineId) -> None:
    """Close the connection of a machine that was stopped."""
    session = turn.view.sessions.get(machine)
    stop = turn.view.pauses[machine_scope(machine)]
    if session is not None and session.connection is not None:
        turn.effects.append(CloseConnection(session.connection, CLOSE_SHUT_OUT, stop.words))
