"""Several messages in one write: on a busy hub the system call costs more than all else."""

import struct
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from agentcom.transport.socket import Socket

_TEXT: Final = 0x81  # FIN and opcode 1 (RFC 6455 5.2); what a server sends is not masked
_SHORT: Final = 126
_MEDIUM: Final = 65_536
_HEAD_16: Final = struct.Struct("!BBH")
_HEAD_64: Final = struct.Struct("!BBQ")


@runtime_checkable
class Coalescing(Protocol):
    """A socket that takes several messages at once."""

    def send_texts(self, payloads: Sequence[bytes]) -> None:
        """Send text messages (valid UTF-8) in one write."""
        ...


def text_frames(payloads: Sequence[bytes]) -> bytes:
    """Return messages as the bytes that a server puts on the wire."""
    parts = []
    for payload in payloads:
        size = len(payload)
        if size < _SHORT:
            parts.append(bytes((_TEXT, size)))
        elif size < _MEDIUM:
            parts.append(_HEAD_16.pack(_TEXT, _SHORT, size))
        else:
            parts.append(_HEAD_64.pack(_TEXT, 127, size))
        parts.append(payload)
    return b"".join(parts)


def send_texts(socket: Socket, payloads: Sequence[bytes]) -> None:
    """Send messages with as few writes as the socket allows."""
    if len(payloads) > 1 and isinstance(socket, Coalescing):
        socket.send_texts(payloads)
        return
    for payload in payloads:
        socket.send_text(payload)
