"""Mail: what may be sent, to whom, and how far a message has come. Pure.

Whom it wakes: `core/waking.py`.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from agentcom.core import descriptions
from agentcom.core.view import PoolView
from agentcom.model import limits, requirement
from agentcom.model.address import Address
from agentcom.model.errors import CursorAhead, InvalidInput, MailboxFull, TooLarge
from agentcom.model.ids import AgentId, ProjectId, WallTime
from agentcom.model.message import Attachment, Delivery, Entry, Head, Message
from agentcom.model.task import Task

_RANK: Final = {state: rank for rank, state in enumerate(Delivery)}
_replace: Final = msgspec.structs.replace


def check_content(body: str, subject: str, attachments: Sequence[Attachment]) -> None:
    """Return if this may be the content of a message.

    Raises:
        InvalidInput: it has characters that no message may have.
        TooLarge: it is longer than a message may be.
    """
    if "\0" in body or not subject.isprintable():
        raise InvalidInput("body", "no NUL in a text, no control characters in a subject")
    quoted = len(msgspec.json.encode(body))  # as it travels: many control characters are long
    if len(body.encode()) > limits.MESSAGE_BYTES or quoted > 2 * limits.MESSAGE_BYTES + 2:
        raise TooLarge(f"a message has at most {limits.MESSAGE_BYTES} bytes; attach a file")
    for attached in attachments:
        if len(attached.name) > limits.TITLE_CHARS or not attached.name.isprintable():
            raise InvalidInput("attachments", f"a name has at most {limits.TITLE_CHARS} characters")


def check_room(head: Head, size: int, of: Address) -> None:
    """Return if a mailbox takes one more message of so many bytes.

    Raises:
        MailboxFull: its reader has to take something first.
    """
    full = head.open >= limits.MAILBOX_MAX or head.open_bytes + size > limits.MAILBOX_BYTES
    if full:
        raise MailboxFull(f"the mailbox of {of} is full; send again when some of it was read")


def check_cursor(head: Head, after: int) -> None:
    """Return if a sequence is one that the mailbox has had.

    Raises:
        CursorAhead: it is not.
    """
    if after > head.seq:
        raise CursorAhead("after", f"the newest message of this mailbox is {head.seq}")


def moved(entry: Entry, state: Delivery, at: WallTime) -> Entry:
    """Return an entry that has come to `state`; the same one if it has come as far already."""
    if entry.state.over or _RANK[state] <= _RANK[entry.state]:
        return entry
    version = entry.version + 1
    match state:
        case Delivery.DELIVERED:
            return _replace(entry, state=state, delivered_at=at, version=version)
        case Delivery.SEEN:
            return _replace(entry, state=state, seen_at=at, version=version)
        case Delivery.ACKED:
            return _replace(entry, state=state, acked_at=at, version=version)
        case _:
            return _replace(entry, state=state, version=version)


def is_late(state: Delivery, message: Message, now: WallTime) -> bool:
    """Return whether a message's time ran out before anybody took it."""
    return not state.over and ends(message) <= now


def ends(message: Message) -> WallTime:
    """Return until when a message can be taken."""
    if message.expires_at is not None:
        return message.expires_at
    return WallTime(message.at + limits.MESSAGE_EXPIRES_MS)


def first_due(message: Message) -> WallTime:
    """Return when to look for the first time whether something of a message is over."""
    return min(ends(message), WallTime(message.at + limits.MESSAGE_KEEP_MS))


def due_at(entry: Entry, message: Message) -> WallTime:
    """Return when a place in a mailbox expires, or may be deleted since it is over."""
    if not entry.state.over:
        return ends(message)
    closed_at = ends(message) if entry.acked_at is None else entry.acked_at
    return WallTime(closed_at + limits.MESSAGE_KEEP_MS)


def attempts(view: PoolView, agent: AgentId) -> list[Task]:
    """Return the tasks that an agent works on."""
    row = view.agents.get(agent)
    if row is None:
        return []
    held = (view.tasks[task] for task in view.held_by.get(row.machine, ()))
    return [task for task in held if task.agent == agent and task.state.held]


def is_of(view: PoolView, agent: AgentId, project: ProjectId) -> bool:
    """Return whether an agent can be written to from a project: it is its, or works for it."""
    row = view.agents.get(agent)
    if row is None:
        return False
    return row.project == project or any(t.project == project for t in attempts(view, agent))


def works_for(view: PoolView, agent: AgentId) -> ProjectId | None:
    """Return the one project that an agent works for now; its mail is not for others' eyes."""
    projects = {task.project for task in attempts(view, agent)}
    return projects.pop() if len(projects) == 1 else None


def fitting(view: PoolView, project: ProjectId, needs: Sequence[str]) -> list[AgentId]:
    """Return the agents of a project that meet all needs, by name; idle, busy or away.

    Raises:
        InvalidInput: a need is malformed.
    """
    wanted = requirement.canonical(needs)
    named = dict.fromkeys(descriptions.names_in(wanted), 1)
    known: dict[object, bool] = {}
    found = []
    for agent in sorted(view.agents):
        row = view.agents[agent]
        if row.absent or not is_of(view, agent, project):
            continue
        who = (agent, row.machine) if named else None
        alike = (who, row.runtime, row.capabilities, tuple(sorted(row.labels.items())))
        if alike not in known:  # thousands of agents offer a few different things
            offers = descriptions.offers(row, view.machines.get(row.machine), named)
            known[alike] = all(requirement.satisfies(offers.capabilities, need) for need in wanted)
        if known[alike]:
            found.append(agent)
    return found
