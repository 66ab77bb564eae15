"""Frames for what is followed live: letters, who is there, and parts of logs.

They belong to `protocol/frames.py`, which says how one subscribes.
"""

from typing import Final

import msgspec

from agentcom.model.address import Address
from agentcom.model.ids import Fence, TaskId
from agentcom.protocol.told import Letter, Presence

MAIL: Final = "mail"
"""The log that is one's own mailbox."""
CHANNEL: Final = "channel/"
"""With a channel's name: its log."""
PRESENCE: Final = "presence"
"""No log: the state of who is there, and what changes of it."""


class Frame(msgspec.Struct, frozen=True, gc=False, tag_field="type"):
    """Any frame, of these and all others."""


class LetterFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="letter"):
    """A letter of a mailbox or channel that the client follows."""

    log: str
    """As it was subscribed to."""
    letter: Letter


class PresenceFrame(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="presence"):
    """Who of those that the client follows does something else now; the newest state of each."""

    log: str
    present: tuple[Presence, ...] = ()
    gone: tuple[Address, ...] = ()
    """Who does not fit what was asked for any more, or is removed."""
    first: bool = False
    """True: forget what was told before; this and what follows is all."""


class Ended(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="ended"):
    """A subscription that the client may not have any more; nothing of it comes after this."""

    log: str
    code: str
    message: str


class LogWanted(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="log_wanted"):
    """Somebody reads an attempt's log from `offset` on, in bytes. Answered by `log_part`."""

    key: str
    task: TaskId
    fence: Fence
    offset: int = 0


class LogPart(Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="log_part"):
    """Answers `log_wanted`."""

    key: str
    text: str = ""
    next: int = 0
    """Where the log goes on after `text`, in bytes."""
    size: int = 0
    """How long it is by now; 0: there is none (any more)."""


class LogLevelFrame(
    Frame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="log_level"
):
    """Have a machine's sidecar log more, or less, for a while. Not answered."""

    level: str
    """`usual`: as its settings say."""
    logger: str = ""
    for_ms: int = 600_000


Live = LetterFrame | PresenceFrame | Ended | LogWanted | LogLevelFrame
