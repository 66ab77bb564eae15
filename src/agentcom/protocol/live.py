"""Frames with which the hub brings what is followed live: letters, and who is there.

They belong to `protocol/frames.py`, which says how one subscribes.
"""

from typing import Final

import msgspec

from agentcom.model.address import Address
from agentcom.protocol.told import Letter, Presence

MAIL: Final = "mail"
"""The log that is one's own mailbox."""
CHANNEL: Final = "channel/"
"""With a channel's name: its log."""
PRESENCE: Final = "presence"
"""No log: the state of who is there, and what changes of it."""


class LiveFrame(msgspec.Struct, frozen=True, gc=False, tag_field="type"):
    """Any of them; `log` is what was subscribed to."""


class LetterFrame(LiveFrame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="letter"):
    """A letter of a mailbox or channel that the client follows."""

    log: str
    """As it was subscribed to."""
    letter: Letter


class PresenceFrame(
    LiveFrame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="presence"
):
    """Who of those that the client follows does something else now; the newest state of each."""

    log: str
    present: tuple[Presence, ...] = ()
    gone: tuple[Address, ...] = ()
    """Who does not fit what was asked for any more, or is removed."""
    first: bool = False
    """True: forget what was told before; this and what follows is all."""


class Ended(LiveFrame, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag="ended"):
    """A subscription that the client may not have any more; nothing of it comes after this."""

    log: str
    code: str
    message: str


Live = LetterFrame | PresenceFrame | Ended
