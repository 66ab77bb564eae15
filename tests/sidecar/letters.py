"""Letters as the hub brings them."""

from typing import Any

from agentcom.model.address import Address
from agentcom.model.ids import WallTime
from agentcom.model.message import Message, MessageId
from agentcom.protocol.told import Letter

BOB = Address("agent:bob")


def letter(seq: int, body: str = "hello", *, wakes: bool = True, **more: Any) -> Letter:
    named = MessageId(f"m{seq}")
    message = Message(id=named, sender=BOB, at=WallTime(1_000), body=body, thread=named, **more)
    return Letter(seq=seq, message=message, wakes=wakes)
