"""Several messages in one write: on a busy hub the system call costs more than all else."""

import struct
from collections.abc import Sequence
from typing import Final

_TEXT: Final = 0x81  # FIN and opcode 1 (RFC 6455 5.2); what a server sends is not masked
_SHORT: Final = 126
_MEDIUM: Final = 65_536
_pack_16: Final = struct.Struct("!BBH").pack
_HEAD_64: Final = struct.Struct("!BBQ")


def text_frames(payloads: Sequence[bytes]) -> bytes:
    """Return messages as the bytes that a server puts on the wire."""
    parts: list[bytes] = []
    for payload in payloads:
        size = len(payload)
        if size < _SHORT:
            parts += bytes((_TEXT, size)), payload
        elif size < _MEDIUM:
            parts += _pack_16(_TEXT, _SHORT, size), payload
        else:
            parts += _HEAD_64.pack(_TEXT, 127, size), payload
    return b"".join(parts)
