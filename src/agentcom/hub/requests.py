"""What makes two requests the same: shared by all doors, so a repeat may come by another one."""

import hashlib
from collections.abc import Callable
from itertools import count
from typing import Final

import msgspec

from agentcom.core.facts import Body, Submit
from agentcom.model.errors import InvalidInput
from agentcom.model.limits import REQUEST_KEY_CHARS

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


def payload_hash(body: Body | msgspec.Struct) -> str:
    """Return the SHA-256 of a request; that of a submit covers its tasks and nothing else."""
    if isinstance(body, Submit):
        return hashlib.sha256(_ENCODER.encode(body.specs)).hexdigest()
    named = _ENCODER.encode((type(body).__name__, body))
    return hashlib.sha256(named).hexdigest()


def check_key(key: str) -> str:
    """Return a request key that may be used.

    Raises:
        InvalidInput: it is empty, too long, or has control characters.
    """
    if not 1 <= len(key) <= REQUEST_KEY_CHARS or not key.isprintable():
        raise InvalidInput("key", f"1 to {REQUEST_KEY_CHARS} printable characters")
    return key


class Causes:
    """Short ids that tie together all that follows from one input; unique within one hub's run."""

    def __init__(self, prefix: str) -> None:
        self.new: Callable[[], str] = map(f"{prefix}%x".__mod__, count(1)).__next__
        """Returns the next id."""
