"""What is written at once: the unit of durability, and the journal's record.

A batch names rows by `(table, key)`. A row is a `msgspec.Struct` with a `version`; an update or
a delete states the version that it replaces, and the whole batch fails if one is not there.
"""

from enum import StrEnum
from typing import Final

import msgspec

from agentcom.model import limit
from agentcom.model.agent import Account, Agent, Machine
from agentcom.model.alert import Alert, AlertRule, Silence
from agentcom.model.ask import Ask
from agentcom.model.audit import AuditEntry, AuditNote
from agentcom.model.budget import ScopeBudget
from agentcom.model.channel import Channel, Reader
from agentcom.model.event import TaskEvent
from agentcom.model.graph import Edge, Member, Tally
from agentcom.model.hold import Hold
from agentcom.model.identity import Credential, RequestRecord, User
from agentcom.model.ids import BatchId, Fence, PoolId
from agentcom.model.lock import Lock
from agentcom.model.message import Entry, Head, Message
from agentcom.model.notify import ChatCard, ChatLink, Destination, Notice
from agentcom.model.pause import Pause
from agentcom.model.result import KeptResult
from agentcom.model.schedule import Schedule
from agentcom.model.shared_note import Blob, SharedNote
from agentcom.model.task import Task, TaskBody
from agentcom.model.todo import Todo
from agentcom.model.usage import Usage


class Table(StrEnum):
    """Every table of rows; logs are apart."""

    TASK = "task"
    BODY = "body"
    EDGE = "edge"
    MEMBER = "member"
    TALLY = "tally"
    HOLD = "hold"
    RULE = "rule"
    RATE = "rate"
    RESULT = "result"
    USAGE = "usage"
    BUDGET = "budget"
    AGENT = "agent"
    ACCOUNT = "account"
    MACHINE = "machine"
    SCHEDULE = "schedule"
    USER = "user"
    PAUSE = "pause"
    CREDENTIAL = "credential"
    REQUEST = "request"
    TODO = "todo"
    MESSAGE = "message"
    ENTRY = "entry"
    HEAD = "head"
    CHANNEL = "channel"
    READER = "reader"
    NOTE = "note"
    NOTE_VERSION = "note_version"
    BLOB = "blob"
    ASK = "ask"
    LOCK = "lock"
    ALERT_RULE = "alert_rule"
    ALERT = "alert"
    SILENCE = "silence"
    DESTINATION = "destination"
    NOTICE = "notice"
    CHAT_LINK = "chat_link"
    CHAT_CARD = "chat_card"
    AUDIT = "audit"

    __hash__ = str.__hash__  # Enum's own is Python code, and every write looks its table up


Row = (
    Task
    | TaskBody
    | Edge
    | Member
    | Tally
    | Hold
    | limit.Limit
    | limit.Usage
    | KeptResult
    | Usage
    | ScopeBudget
    | Agent
    | Account
    | Machine
    | Schedule
    | User
    | Pause
    | Credential
    | RequestRecord
    | Todo
    | Message
    | Entry
    | Head
    | Channel
    | Reader
    | SharedNote
    | Blob
    | Ask
    | Lock
    | AlertRule
    | Alert
    | Silence
    | Destination
    | Notice
    | ChatLink
    | ChatCard
    | AuditEntry
)

ROW_TYPES: Final[dict[Table, type[msgspec.Struct]]] = {
    Table.TASK: Task,
    Table.BODY: TaskBody,
    Table.EDGE: Edge,
    Table.MEMBER: Member,
    Table.TALLY: Tally,
    Table.HOLD: Hold,
    Table.RULE: limit.Limit,
    Table.RATE: limit.Usage,
    Table.RESULT: KeptResult,
    Table.USAGE: Usage,
    Table.BUDGET: ScopeBudget,
    Table.AGENT: Agent,
    Table.ACCOUNT: Account,
    Table.MACHINE: Machine,
    Table.SCHEDULE: Schedule,
    Table.USER: User,
    Table.PAUSE: Pause,
    Table.CREDENTIAL: Credential,
    Table.REQUEST: RequestRecord,
    Table.TODO: Todo,
    Table.MESSAGE: Message,
    Table.ENTRY: Entry,
    Table.HEAD: Head,
    Table.CHANNEL: Channel,
    Table.READER: Reader,
    Table.NOTE: SharedNote,
    Table.NOTE_VERSION: SharedNote,
    Table.BLOB: Blob,
    Table.ASK: Ask,
    Table.LOCK: Lock,
    Table.ALERT_RULE: AlertRule,
    Table.ALERT: Alert,
    Table.SILENCE: Silence,
    Table.DESTINATION: Destination,
    Table.NOTICE: Notice,
    Table.CHAT_LINK: ChatLink,
    Table.CHAT_CARD: ChatCard,
    Table.AUDIT: AuditEntry,
}


class Insert(msgspec.Struct, frozen=True, gc=False, tag="insert"):
    """A row that must not exist yet."""

    table: Table
    key: str
    row: Row


class Update(msgspec.Struct, frozen=True, gc=False, tag="update"):
    """A row that replaces the one with version `expected`."""

    table: Table
    key: str
    row: Row
    expected: int


class Delete(msgspec.Struct, frozen=True, gc=False, tag="delete"):
    """The end of the row with version `expected`."""

    table: Table
    key: str
    expected: int


Change = Insert | Update | Delete


class Append(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A record for a log; the store gives it the next sequence number."""

    log: str
    record: TaskEvent


class Batch(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Changes and records that become durable together or not at all."""

    id: BatchId
    pool: PoolId
    term: int | None = None
    """The writer's term; None for rows that are no pool's (tokens, users)."""
    changes: tuple[Change, ...] = ()
    appends: tuple[Append, ...] = ()
    forgets: tuple[tuple[int, int], ...] = ()
    """Records that go: those of earlier batches whose records lie between two sequences, both
    included. The newest batch with records keeps them."""
    audits: tuple[AuditNote, ...] = ()
    """What the store puts at the end of the audit log, as its next entries."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.changes or self.appends or self.forgets or self.audits)


def edge_key(task: str, on: str) -> str:
    """Return the key of a dependency's row."""
    return f"{task}/{on}"


def group_key(project: str, name: str) -> str:
    """Return the key of a group's tally; with a slash it begins the keys of its members."""
    return f"group/{project}/{name}"


def children_key(task: str) -> str:
    """Return the key of the tally of a task's sub-tasks; with a slash it begins theirs."""
    return f"children/{task}"


def family_key(root: str) -> str:
    """Return the key of the tally of all that came of a task, its sub-tasks' sub-tasks too."""
    return f"family/{root}"


def member_key(of: str, task: str) -> str:
    """Return the key of a member's row; `of` is the key of the group's or the task's tally."""
    return f"{of}/{task}"


def hold_key(task: str, key: str) -> str:
    """Return the key of a hold's row."""
    return f"{task}/{key}"


def result_key(task: str, fence: Fence, machine: str) -> str:
    """Return the key of a kept result's row; sorts by attempt."""
    return f"{task}/{str(fence.incarnation).zfill(12)}.{str(fence.attempt).zfill(6)}/{machine}"


def usage_key(task: str, fence: Fence, turn: int) -> str:
    """Return the key of a turn's row; sorts by attempt and turn."""
    attempt = f"{str(fence.incarnation).zfill(12)}.{str(fence.attempt).zfill(6)}"
    return f"{task}/{attempt}/{str(turn).zfill(6)}"


def usage_day_key(project: str, day: int, whose: str) -> str:
    """Return the key of a row that stands for the turns of a day; `whose` tells such rows apart."""
    return f"day/{project}/{day}/{whose}"


def budget_key(project: str, scope: str, period: str) -> str:
    """Return the key of a budget's row."""
    return f"{project}/{scope}/{period}"


def request_key(submitter: str, key: str) -> str:
    """Return the key of a request's row."""
    return f"{submitter}/{key}"
