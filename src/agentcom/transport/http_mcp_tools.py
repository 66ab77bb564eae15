"""The tools of the MCP door: one for each line of the table of calls, and those of tasks.

What a tool is called, takes and answers comes from the types; here stands only what a client wants
to know beside that: which tools it needs first, and what a use of one may do.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from agentcom.hub.talk import Answer
from agentcom.protocol import calls
from agentcom.protocol.call_table import RULES
from agentcom.protocol.calls import Call
from agentcom.transport import http_mcp_tasks
from agentcom.transport.http_mcp_tool import Brief, Effect, Guest, Profile, Tool


async def _call(guest: Guest, call: Call, key: str | None) -> Answer:
    return await guest.hall.talk.do(guest.speaker(), call, cause=guest.cause, key=key)


_BRIEF: Final[Mapping[type[Call], Brief]] = MappingProxyType(
    {
        calls.MessageSend: Brief("Send a message by name.", ("to", "body", "reply_to")),
        calls.InboxRead: Brief(
            "Read new messages; `after` acknowledges those up to it.", ("after", "wait_ms")
        ),
        calls.MessageAck: Brief("Acknowledge those that ask for it.", ("messages",)),
        calls.ChannelPost: Brief("Post to a channel; `@name` mentions.", ("channel", "body")),
        calls.ChannelHistory: Brief("Read a channel.", ("channel", "unread")),
        calls.NoteWrite: Brief(
            "Write a shared note; with the newest `version`, only over that.",
            ("name", "text", "version"),
        ),
        calls.NoteRead: Brief("Read a shared note.", ("name",)),
        calls.NoteList: Brief("List shared notes.", ("prefix",)),
        calls.Search: Brief("Find messages, notes and tasks by words.", ("text",)),
        calls.LockAcquire: Brief(
            "Lock file patterns of a repo, or names.", ("globs", "repo", "wait_ms")
        ),
        calls.LockRelease: Brief("Give a lock back.", ("lock",)),
        calls.AskPut: Brief(
            "Ask someone; without `to`, whose task it is.", ("question", "to", "wait_ms")
        ),
        calls.AskAnswer: Brief("Answer a question.", ("ask", "answer")),
        calls.Whoami: Brief("Show who you are, and what is unread."),
        calls.PresenceList: Brief("List agents and people.", ("needs",)),
    }
)
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
        access=rule.action,
        effect=_EFFECTS.get(kind, Effect.ADDS if rule.changes else Effect.READS),
        keyed=rule.changes,
        brief=_BRIEF.get(kind),
        run=_call,
    )


TOOLS: Final = (*http_mcp_tasks.TOOLS, *map(_tool, RULES))
"""All of them, in the order in which clients see them."""


def tools_of(profile: Profile) -> dict[str, Tool]:
    """Return the tools of a profile by name."""
    return {tool.name: tool for tool in TOOLS if profile is Profile.FULL or tool.brief is not None}
