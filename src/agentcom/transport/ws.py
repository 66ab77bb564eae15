"""The WebSocket door: who may come in, and as what.

Sessions are in `ws_session.py`, what their frames mean in `ws_machine.py` and `ws_client.py`.
"""

from agentcom.model import token_text
from agentcom.model.errors import AgentComError, MalformedInput, NotAuthenticated, Unsupported
from agentcom.protocol import frames
from agentcom.transport.socket import CLOSE_NOT_ALLOWED, Head
from agentcom.transport.ws_client import ClientSide
from agentcom.transport.ws_machine import MachineSide
from agentcom.transport.ws_session import KINDS, Desk, Session, Side


class WebSocketDoor:
    """Decides about upgrades; the route of `/ws`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        desk.auth.on_revoked(desk.switchboard.revoke)
        desk.auth.hold(desk.switchboard.credentials)

    def route(self, head: Head) -> Session:
        """Let an upgrade in that brings a well-formed token; the session looks it up.

        Raises:
            NotAuthenticated: it brings none.
        """
        if not self.is_trusted(head):
            raise NotAuthenticated("the upgrade needs `Authorization: Bearer TOKEN`, whole")
        return Session(self._desk, greet)

    def is_trusted(self, head: Head) -> bool:
        """Return whether a head brings a token that is at least well-formed.

        Such connections do not count as strangers, else a fleet behind one address would lock
        itself out after a restart. Who only pretends is found within one look into the store.
        """
        token = token_text.parse(head.bearer or "")
        return token is not None and token.kind in KINDS


def greet(session: Session, frame: frames.FromPeer) -> Side:
    """Return what a session is for, by its first frame.

    Raises:
        MalformedInput: it is no first frame.
        Unsupported: there is no version that both sides speak.
        NotAllowed: the token is not for this.
    """
    if not isinstance(frame, frames.Hello | frames.MachineHello):
        raise MalformedInput("the first frame is `hello` or `machine`")
    try:
        version = _version(frame.versions)
        if isinstance(frame, frames.Hello):
            return ClientSide(session, version)
        return MachineSide(session, frame, version)
    except AgentComError as error:
        session.error(error)
        session.close(CLOSE_NOT_ALLOWED, error.message)
        raise


def _version(offered: tuple[int, ...]) -> int:
    spoken = [v for v in offered if frames.VERSION_MIN <= v <= frames.VERSION]
    if not spoken:
        known = f"{frames.VERSION_MIN} to {frames.VERSION}"
        raise Unsupported(f"this hub speaks versions {known}; upgrade the older side")
    return max(spoken)
