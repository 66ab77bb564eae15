"""What a supervisor is told on its socket: commands, of which some bring bytes with them.

Standard library only, since the supervisor imports it.
"""

import socket
from typing import Final, NamedTuple

BODY_BYTES_MAX: Final = 8 << 20
"""Of one `say`: a prompt has at most a megabyte, and JSON may double it."""

_COMMAND_BYTES_MAX: Final = 256
_WITH_BODY: Final = frozenset({"say", "farewell"})


class Command(NamedTuple):
    """One command; `body` is what came behind its line."""

    verb: str
    argument: str = ""
    body: bytes = b""


class Client:
    """One connection of the sidecar."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over the connection."""
        self.connection = connection
        self.offset: int | None = None
        self._received = bytearray()

    def take(self, data: bytes) -> list[Command]:
        """Return the commands that are complete with these bytes.

        Raises:
            ValueError: a line or a body is too long.
        """
        self._received += data
        commands: list[Command] = []
        while (command := self._next()) is not None:
            commands.append(command)
        return commands

    def _next(self) -> Command | None:
        received = self._received
        end = received.find(b"\n", 0, _COMMAND_BYTES_MAX)
        if end < 0:
            if len(received) >= _COMMAND_BYTES_MAX:
                raise ValueError("this is no command")
            return None
        verb, _, argument = received[:end].decode("ascii", "replace").partition(" ")
        length = 0
        if verb in _WITH_BODY:
            argument, _, given = argument.rpartition(" ")
            length = int(given)
            if not 0 <= length <= BODY_BYTES_MAX:
                raise ValueError("this is too long")
        if len(received) - end - 1 < length:
            return None
        body = bytes(received[end + 1 : end + 1 + length])
        del received[: end + 1 + length]
        return Command(verb, argument, body)
