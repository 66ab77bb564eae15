"""What a tool of the MCP door is, and who uses one.

Nothing of the protocol itself: that is in `http_mcp_server.py`. Which tools there are stands in
`http_mcp_tools.py`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Answer
from agentcom.model import policy
from agentcom.model.identity import Identity
from agentcom.model.policy import Action
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

    def speaker(self) -> Speaker:
        """Return the person, or the agent of the attempt that the headers name.

        Raises:
            InvalidInput: a machine names no attempt.
            Stale: it does not hold that attempt.
        """
        return caller.speaker(self.hall.engine.view, self.identity, self.headers)


class Effect(StrEnum):
    """What a use of a tool may do; clients ask a person before some."""

    READS = "reads"
    REPEATS = "repeats"
    """It changes something, and once more changes nothing."""
    ADDS = "adds"
    REMOVES = "removes"


@dataclass(frozen=True, slots=True)
class Brief:
    """How the minimal profile tells of a tool."""

    says: str
    fields: tuple[str, ...] = ()
    """Those that it tells of; the others can be given nevertheless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool."""

    name: str
    says: str
    """What it does."""
    kind: type[msgspec.Struct]
    """What it takes; a field that is not there is refused."""
    reply: type[msgspec.Struct]
    access: Action
    """What of the table of roles guards it."""
    effect: Effect
    keyed: bool
    """Whether it knows a repeat by its key."""
    brief: Brief | None
    """None: the minimal profile does not have it."""
    run: Callable[[Guest, Any, str | None], Awaitable[Answer]]
    at_work: bool = False
    """True: an agent may use it for the task that it works on, whatever its role."""

    def description(self, profile: Profile) -> str:
        """Return what it does, in the words of a profile."""
        short = self.brief if profile is Profile.MINIMAL else None
        return self.says if short is None else short.says

    def arguments(self, profile: Profile) -> Schema:
        """Return the schema of what it takes."""
        short = self.brief if profile is Profile.MINIMAL else None
        only = None if short is None else short.fields
        return http_mcp_schema.arguments(self.kind, keyed=self.keyed, only=only)

    async def use(self, guest: Guest, given: Mapping[str, Any]) -> Answer:
        """Use it with arguments as they came.

        Raises:
            AgentComError: the arguments are not good, or it is refused.
        """
        if not (self.at_work and guest.speaker().task is not None):
            # Whose thing it is, the service looks up, and asks again where that matters.
            policy.authorize(guest.identity, self.access, owner=guest.identity.user)
        data = decoding.encode(given)
        if not self.keyed:
            return await self.run(guest, decoding.decode(data, self.kind), None)
        key = decoding.decode(data, _Keyed).request_key
        rest = decoding.encode({name: given[name] for name in given if name != KEY})
        return await self.run(guest, decoding.decode(rest, self.kind), key)


class _Keyed(msgspec.Struct):
    request_key: str | None = None
