"""The table of calls: what each needs to be allowed, is answered with, and whether it changes much.

All doors are made from it, so that a call is the same behind each.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call


class Rule(NamedTuple):
    """What holds for one kind of call."""

    action: Action
    reply: type[msgspec.Struct]
    changes: bool = True
    """Whether it changes something that a repeat would change again: then a request key counts."""
    cost: int = 1
    """How many units of its budget it spends: as many plain reads as it weighs."""


RULES: Final[Mapping[type[Call], Rule]] = MappingProxyType(
    {
        calls.MessageSend: Rule(Action.MESSAGE_SEND, told.Sent),
        calls.MessageBroadcast: Rule(Action.MESSAGE_SEND, told.Sent, cost=20),
        calls.InboxRead: Rule(Action.MESSAGE_READ, told.Inbox, changes=False),
        calls.MessageAck: Rule(Action.MESSAGE_READ, told.Acked, changes=False),
        calls.MessageShow: Rule(Action.MESSAGE_READ, told.MessageShown, changes=False),
        calls.ThreadRead: Rule(Action.MESSAGE_READ, told.Thread, changes=False, cost=2),
        calls.ChannelCreate: Rule(Action.CHANNEL_CREATE, told.ChannelShown),
        calls.ChannelList: Rule(Action.CHANNEL_READ, told.ChannelsShown, changes=False),
        calls.ChannelShow: Rule(Action.CHANNEL_READ, told.ChannelShown, changes=False),
        calls.ChannelPost: Rule(Action.CHANNEL_POST, told.Sent),
        calls.ChannelHistory: Rule(Action.CHANNEL_READ, told.History, changes=False),
        calls.ChannelJoin: Rule(Action.CHANNEL_READ, told.ChannelShown),
        calls.ChannelLeave: Rule(Action.CHANNEL_READ, Done),
        calls.ChannelMember: Rule(Action.CHANNEL_MANAGE, told.ChannelShown),
        calls.ChannelChange: Rule(Action.CHANNEL_MANAGE, told.ChannelShown),
        calls.ChannelDelete: Rule(Action.CHANNEL_MANAGE, Done),
        calls.NoteWrite: Rule(Action.NOTE_WRITE, told.NoteShown),
        calls.NoteRead: Rule(Action.NOTE_READ, told.NoteShown, changes=False),
        calls.NoteList: Rule(Action.NOTE_READ, told.NotesShown, changes=False),
        calls.NoteHistory: Rule(Action.NOTE_READ, told.NotesShown, changes=False),
        calls.NoteDelete: Rule(Action.NOTE_WRITE, Done),
        calls.Search: Rule(Action.NOTE_READ, told.Hits, changes=False, cost=20),
        calls.LockAcquire: Rule(Action.LOCK_ACQUIRE, told.LockShown),
        calls.LockRelease: Rule(Action.LOCK_ACQUIRE, Done),
        calls.LockList: Rule(Action.LOCK_READ, told.LocksShown, changes=False),
        calls.AskPut: Rule(Action.ASK_PUT, told.AskShown),
        calls.AskShow: Rule(Action.ASK_READ, told.AskShown, changes=False),
        calls.AskList: Rule(Action.ASK_READ, told.AsksShown, changes=False),
        calls.AskAnswer: Rule(Action.ASK_ANSWER, told.AskShown),
        calls.AskWithdraw: Rule(Action.ASK_PUT, told.AskShown),
        calls.Whoami: Rule(Action.MESSAGE_READ, told.Me, changes=False),
        calls.PresenceList: Rule(Action.AGENT_READ, told.PresencesShown, changes=False, cost=5),
    }
)
