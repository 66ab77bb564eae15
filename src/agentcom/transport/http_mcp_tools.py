"""The tools of the MCP door: one for each line of the table of calls.

What a tool is called, takes and answers comes from the types; here stands only what a client wants
to know beside that: which tools it needs first, and what a call of one may do. Nothing of the
protocol itself: that is in `http_mcp_server.py`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec

from agentcom.hub.talk import Answer
from agentcom.model.identity import Identity
from agentcom.protocol import calls
from agentcom.protocol.call_table import RULES
from agentcom.protocol.calls import Call
from agentcom.transport import caller, decoding, http_mcp_schema
from agentcom.transport.http_call import Hall
from agentcom.transport.http_mcp_schema import KEY, Schema


class Profile(StrEnum):
    """Which tools a client sees: a model reads the list of them with every request."""

    MINIMAL = "minimal"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Whoever uses the door now, by their token and headers."""

    hall: Hall
    identity: Identity
    headers: Mapping[str, str]
    cause: str
    profile: Profile


class Effect(StrEnum):
    """What a call of a tool may do; clients ask a person before some."""

    READS = "reads"
    REPEATS = "repeats"
    """It changes something, and once more changes nothing."""
    ADDS = "adds"
    REMOVES = "removes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool."""

    name: str
    says: str
    """What it does; the first line must do for a model that sees no more."""
    kind: type[msgspec.Struct]
    """What it takes; a field that is not there is refused."""
    reply: type[msgspec.Struct]
    effect: Effect
    keyed: bool
    """Whether it knows a repeat by its key."""
    brief: tuple[str, ...] | None
    """The fields that the minimal profile tells of; None: it does not have the tool."""
    run: Callable[[Guest, Any, str | None], Awaitable[Answer]]

    def arguments(self, profile: Profile) -> Schema:
        """Return the schema of what it takes."""
        only = self.brief if profile is Profile.MINIMAL else None
        return http_mcp_schema.arguments(self.kind, keyed=self.keyed, only=only)

    async def use(self, guest: Guest, given: Mapping[str, Any]) -> Answer:
        """Use it with arguments as they came.

        Raises:
            AgentComError: the arguments are not good, or it is refused.
        """
        data = decoding.encode(given)
        if not self.keyed:
            return await self.run(guest, decoding.decode(data, self.kind), None)
        key = decoding.decode(data, _Keyed).request_key
        rest = decoding.encode({name: given[name] for name in given if name != KEY})
        return await self.run(guest, decoding.decode(rest, self.kind), key)


class _Keyed(msgspec.Struct):
    request_key: str | None = None


async def _call(guest: Guest, call: Call, key: str | None) -> Answer:
    speaker = caller.speaker(guest.hall.engine.view, guest.identity, guest.headers)
    return await guest.hall.talk.do(speaker, call, cause=guest.cause, key=key)


_BRIEF: Final[Mapping[type[Call], tuple[str, ...]]] = MappingProxyType(
    {
        calls.MessageSend: ("to", "body", "reply_to"),
        calls.InboxRead: ("after", "wait_ms"),
        calls.MessageAck: ("messages",),
        calls.ChannelPost: ("channel", "body", "reply_to"),
        calls.ChannelHistory: ("channel", "after", "unread"),
        calls.NoteWrite: ("name", "text", "version"),
        calls.NoteRead: ("name",),
        calls.NoteList: ("prefix", "after"),
        calls.Search: ("text",),
        calls.LockAcquire: ("globs", "repo", "wait_ms"),
        calls.LockRelease: ("lock",),
        calls.AskPut: ("question", "to", "options", "wait_ms"),
        calls.AskAnswer: ("ask", "answer"),
        calls.Whoami: (),
        calls.PresenceList: ("needs",),
    }
)
"""The tools of the minimal profile, with the fields that it tells of."""
_EFFECTS: Final[Mapping[type[Call], Effect]] = MappingProxyType(
    {
        calls.InboxRead: Effect.REPEATS,
        calls.MessageAck: Effect.REPEATS,
        calls.ChannelHistory: Effect.REPEATS,
        calls.ChannelJoin: Effect.REPEATS,
        calls.ChannelLeave: Effect.REPEATS,
        calls.ChannelMember: Effect.REPEATS,
        calls.ChannelChange: Effect.REPEATS,
        calls.ChannelDelete: Effect.REMOVES,
        calls.NoteDelete: Effect.REMOVES,
        calls.LockRelease: Effect.REPEATS,
        calls.AskWithdraw: Effect.REPEATS,
    }
)
"""What the table of calls does not tell: reading a mailbox acknowledges, for example."""


def _tool(kind: type[Call]) -> Tool:
    rule = RULES[kind]
    assert kind.__doc__ is not None
    return Tool(
        name=calls.name_of(kind),
        says=kind.__doc__,
        kind=kind,
        reply=rule.reply,
        effect=_EFFECTS.get(kind, Effect.ADDS if rule.changes else Effect.READS),
        keyed=rule.changes,
        brief=_BRIEF.get(kind),
        run=_call,
    )


TOOLS: Final = tuple(map(_tool, RULES))
"""All of them, in the order in which clients see them."""


def tools_of(profile: Profile) -> dict[str, Tool]:
    """Return the tools of a profile by name."""
    return {tool.name: tool for tool in TOOLS if profile is Profile.FULL or tool.brief is not None}
