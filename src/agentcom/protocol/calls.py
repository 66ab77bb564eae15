"""What agents and people ask of each other through the hub: one list of calls for all doors.

A call has the same name, fields and answer (`protocol/told.py`) as a WebSocket frame, as a route
`POST /api/v1/calls/NAME`, and as a tool of the MCP door. Who calls is never a field. A field that
is not here is refused. Calls that change something take a request key from the door.
"""

from typing import Annotated, Final

import msgspec

from agentcom.model.channel import ChannelKind, ChannelRole, Notify
from agentcom.model.limits import (
    ASK_OPTIONS_MAX,
    ATTACHMENTS_MAX,
    LOCK_GLOBS_MAX,
    MESSAGE_BYTES,
    PAGE_MAX,
    REASON_CHARS,
    RECIPIENTS_MAX,
    SCOPE_GLOB_CHARS,
    TITLE_CHARS,
    WAIT_MAX_MS,
)
from agentcom.model.message import Attachment, Urgency

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Body = Annotated[str, msgspec.Meta(min_length=1, max_length=MESSAGE_BYTES)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)]
WaitMs = Annotated[int, msgspec.Meta(ge=0, le=WAIT_MAX_MS)]
Milliseconds = Annotated[int, msgspec.Meta(ge=1, le=366 * 86_400_000)]
Globs = Annotated[
    tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=SCOPE_GLOB_CHARS)], ...],
    msgspec.Meta(min_length=1, max_length=LOCK_GLOBS_MAX),
]


class Call(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="call",
):
    """Any call."""


# Mail ----------------------------------------------------------------------------------------


class _Content(Call, frozen=True, kw_only=True):
    body: Body
    subject: Annotated[str, msgspec.Meta(max_length=TITLE_CHARS)] = ""
    urgency: Urgency = Urgency.NORMAL
    attachments: Annotated[tuple[Attachment, ...], msgspec.Meta(max_length=ATTACHMENTS_MAX)] = ()


class MessageSend(_Content, frozen=True, kw_only=True, tag="message_send"):
    """Send a message to agents or people by name. They get it even if they are away now."""

    to: Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=RECIPIENTS_MAX)]
    reply_to: Id | None = None
    """The message that this one answers: they stand in one thread."""
    ack_required: bool = False
    """Its recipients must acknowledge it; the sender is told if they did not in time."""
    expires_in_ms: Milliseconds | None = None


class MessageBroadcast(_Content, frozen=True, kw_only=True, tag="message_broadcast"):
    """Send a message to every agent of the project that fits all that is said, but oneself."""

    needs: Annotated[tuple[Name, ...], msgspec.Meta(max_length=64)] = ()
    """Requirements, as of tasks: `python>=3.11`, `team=api`."""
    ack_required: bool = False
    expires_in_ms: Milliseconds | None = None


class InboxRead(Call, frozen=True, kw_only=True, tag="inbox_read"):
    """Read one's own mailbox, oldest first: what is not acknowledged yet.

    `after` acknowledges what is up to that sequence and needs no acknowledgement by name.
    """

    after: Seq | None = None
    limit: Limit = 20
    all: bool = False
    """True: acknowledged ones too, after `after` or from the beginning; nothing is acknowledged."""
    wait_ms: WaitMs = 0
    """With nothing to read, wait so long for something."""


class MessageAck(Call, frozen=True, kw_only=True, tag="message_ack"):
    """Acknowledge messages of one's own mailbox: they do not come again."""

    messages: Annotated[tuple[Id, ...], msgspec.Meta(min_length=1, max_length=PAGE_MAX)]


class MessageShow(Call, frozen=True, kw_only=True, tag="message_show"):
    """Show a message that one sent or got; its sender sees how far it has come with each."""

    message: Id


class ThreadRead(Call, frozen=True, kw_only=True, tag="thread_read"):
    """Read a thread from its beginning: all messages of it that one may see."""

    message: Id
    """Any message of the thread."""
    after: Id | None = None
    limit: Limit = 20


# Channels ------------------------------------------------------------------------------------


class ChannelCreate(Call, frozen=True, kw_only=True, tag="channel_create"):
    """Make a channel; whoever makes it owns it."""

    channel: Name
    kind: ChannelKind = ChannelKind.PUBLIC
    topic: Annotated[str, msgspec.Meta(max_length=TITLE_CHARS)] = ""
    task: Id | None = None
    """Of kind `task`: which one."""


class ChannelList(Call, frozen=True, kw_only=True, tag="channel_list"):
    """List the channels that one may see, by name, with what one has not read."""

    joined: bool = False
    archived: bool = False
    after: Name | None = None
    limit: Limit = 50


class ChannelShow(Call, frozen=True, kw_only=True, tag="channel_show"):
    """Show a channel with its members and pins."""

    channel: Name


class ChannelPost(_Content, frozen=True, kw_only=True, tag="channel_post"):
    """Post to a channel. `@name` in the text mentions: who is mentioned gets it as mail, too."""

    channel: Name
    reply_to: Id | None = None


class ChannelHistory(Call, frozen=True, kw_only=True, tag="channel_history"):
    """Read a channel: the newest posts, those after a sequence upwards, or before it downwards.

    Always answered in order, oldest first. Reading moves one's own place in the channel forward.
    """

    channel: Name
    after: Seq | None = None
    before: Seq | None = None
    unread: bool = False
    """True: from one's own place on."""
    limit: Limit = 20


class ChannelJoin(Call, frozen=True, kw_only=True, tag="channel_join"):
    """Become a member, or change of what one is told."""

    channel: Name
    notify: Notify | None = None
    """By default people are told of everything, agents of mentions."""


class ChannelLeave(Call, frozen=True, kw_only=True, tag="channel_leave"):
    """Be no member any more."""

    channel: Name


class ChannelMember(Call, frozen=True, kw_only=True, tag="channel_member"):
    """Add someone to a channel that one owns, give them a role, or (None) remove them."""

    channel: Name
    name: Name
    role: ChannelRole | None = ChannelRole.MEMBER


class ChannelChange(Call, frozen=True, kw_only=True, tag="channel_change"):
    """Change a channel that one owns: topic, archived or not, one pin more or less."""

    channel: Name
    topic: Annotated[str, msgspec.Meta(max_length=TITLE_CHARS)] | None = None
    archived: bool | None = None
    """An archived channel is read and not written."""
    pin: Seq | None = None
    unpin: Seq | None = None


class ChannelDelete(Call, frozen=True, kw_only=True, tag="channel_delete"):
    """Delete an archived channel that one owns, with all its posts."""

    channel: Name


# Notes ---------------------------------------------------------------------------------------


class NoteWrite(Call, frozen=True, kw_only=True, tag="note_write"):
    """Write a shared note. With `version` only if that is the newest one (0: there is none)."""

    name: Name
    text: Body
    version: Seq | None = None


class NoteRead(Call, frozen=True, kw_only=True, tag="note_read"):
    """Read a shared note: the newest version, or a certain one."""

    name: Name
    version: Seq | None = None


class NoteList(Call, frozen=True, kw_only=True, tag="note_list"):
    """List shared notes by name, without their texts."""

    prefix: str = ""
    after: Name | None = None
    limit: Limit = 50


class NoteHistory(Call, frozen=True, kw_only=True, tag="note_history"):
    """List the versions of a note, newest first, without their texts."""

    name: Name
    before: Seq | None = None
    limit: Limit = 20


class NoteDelete(Call, frozen=True, kw_only=True, tag="note_delete"):
    """Delete a shared note; its versions can be read by number for a while."""

    name: Name
    version: Seq | None = None


class Search(Call, frozen=True, kw_only=True, tag="search"):
    """Find messages, notes and tasks by words; only what one may see."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    kinds: tuple[str, ...] = ()
    """Of `message`, `note`, `task`; by default all."""
    limit: Limit = 20


# Locks ---------------------------------------------------------------------------------------


class LockAcquire(Call, frozen=True, kw_only=True, tag="lock_acquire"):
    """Lock names, or files of a repository by patterns, for oneself or shared with others.

    An agent's lock ends with its attempt at the latest; a person's needs `ttl_ms`.
    """

    globs: Globs
    repo: Annotated[str, msgspec.Meta(max_length=REASON_CHARS)] = ""
    """Whose files are meant; empty: plain names."""
    shared: bool = False
    ttl_ms: Milliseconds | None = None
    wait_ms: WaitMs = 0
    """How long the answer may wait for the lock. The place in the queue stays `queue_ms`."""
    queue_ms: Milliseconds | None = None


class LockRelease(Call, frozen=True, kw_only=True, tag="lock_release"):
    """Give a lock back, or leave its queue; an operator may break another's."""

    lock: Id
    force: bool = False


class LockList(Call, frozen=True, kw_only=True, tag="lock_list"):
    """List locks that are held, and who waits for them."""

    mine: bool = False
    limit: Limit = 50


# Questions -----------------------------------------------------------------------------------


class AskPut(Call, frozen=True, kw_only=True, tag="ask_put"):
    """Ask someone, with a deadline. An agent's question keeps its task until it is answered.

    Without `to` an agent asks whoever asked for its task.
    """

    question: Body
    to: Name | None = None
    options: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=TITLE_CHARS)], ...],
        msgspec.Meta(max_length=ASK_OPTIONS_MAX),
    ] = ()
    deadline_ms: Milliseconds | None = None
    fallback: Annotated[str, msgspec.Meta(max_length=REASON_CHARS)] | None = None
    """The answer that is taken if nobody gives one in time."""
    wait_ms: WaitMs = 0
    """How long this call may wait for the answer."""


class AskShow(Call, frozen=True, kw_only=True, tag="ask_show"):
    """Show a question that one asked or may answer; wait for its answer for a while."""

    ask: Id
    wait_ms: WaitMs = 0


class AskList(Call, frozen=True, kw_only=True, tag="ask_list"):
    """List questions: by default the open ones that one may answer."""

    mine: bool = False
    """True: those that one asked."""
    ended: bool = False
    after: Id | None = None
    limit: Limit = 50


class AskAnswer(Call, frozen=True, kw_only=True, tag="ask_answer"):
    """Answer a question."""

    ask: Id
    answer: Body


class AskWithdraw(Call, frozen=True, kw_only=True, tag="ask_withdraw"):
    """Take back a question that one asked."""

    ask: Id


# Who is there --------------------------------------------------------------------------------


class Whoami(Call, frozen=True, kw_only=True, tag="whoami"):
    """Show who one is, on which task, and what waits to be read."""


class PresenceList(Call, frozen=True, kw_only=True, tag="presence_list"):
    """List agents and people with what they do now."""

    needs: Annotated[tuple[Name, ...], msgspec.Meta(max_length=64)] = ()
    """Only agents that fit these requirements."""
    states: tuple[str, ...] = ()
    after: Name | None = None
    limit: Limit = 50


AnyCall = (
    MessageSend
    | MessageBroadcast
    | InboxRead
    | MessageAck
    | MessageShow
    | ThreadRead
    | ChannelCreate
    | ChannelList
    | ChannelShow
    | ChannelPost
    | ChannelHistory
    | ChannelJoin
    | ChannelLeave
    | ChannelMember
    | ChannelChange
    | ChannelDelete
    | NoteWrite
    | NoteRead
    | NoteList
    | NoteHistory
    | NoteDelete
    | Search
    | LockAcquire
    | LockRelease
    | LockList
    | AskPut
    | AskShow
    | AskList
    | AskAnswer
    | AskWithdraw
    | Whoami
    | PresenceList
)
CALLS: Final[tuple[type[Call], ...]] = AnyCall.__args__


def name_of(kind: type[Call]) -> str:
    """Return the name of a call, as doors use it."""
    return str(kind.__struct_config__.tag)
