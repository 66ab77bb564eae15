"""Who makes a call over HTTP: the same for the routes of calls and for the MCP door."""

from collections.abc import Mapping

from agentcom.core.view import PoolView
from agentcom.hub import external, speaking
from agentcom.hub.speaking import Speaker
from agentcom.model.identity import Identity
from agentcom.protocol import caller


def speaker(view: PoolView, identity: Identity, headers: Mapping[str, str]) -> Speaker:
    """Return who speaks: the attempt that the headers name, else whoever the token is for.

    Raises:
        InvalidInput: the headers are malformed, or a machine names no attempt.
        Stale: the caller's machine does not hold that attempt.
    """
    named = caller.named(headers)
    if named is None:
        agent = external.agent_of(view, identity.machine)
        if agent is not None:
            return external.speaker(view, identity, agent)
        return speaking.person(identity)
    return speaking.attempt(view, identity, *named)
