"""Several messages in one write: on a busy hub the system call costs more than all else."""

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Final

_TEXT: Final = 0x81  # FIN and opcode 1 (RFC 6455 5.2); what a server sends is not masked
_SHORT: Final = 126
_MEDIUM: Final = 65_536
_pack_16: Final = struct.Struct("!BBH").pack
_pack_64: Final = struct.Struct("!BBQ").pack
_USUAL: Final = 1_024  # nearly every message is shorter


class _Heads(dict[int, bytes]):
    """What stands before a payload, by its size; made anew for the sizes that are rare."""

    def __missing__(self, size: int) -> bytes:
        return _head(size)


def _head(size: int) -> bytes:
    if size < _SHORT:
        return bytes((_TEXT, size))
    return _pack_16(_TEXT, _SHORT, size) if size < _MEDIUM else _pack_64(_TEXT, 127, size)


_head_of: Final = _Heads({size: _head(size) for size in range(_USUAL)}).__getitem__


def text_frames(payloads: Sequence[bytes]) -> bytes:
    """Return messages as the bytes that a server puts on the wire."""
    heads = map(_head_of, map(len, payloads))
    return b"".join(chain.from_iterable(zip(heads, payloads, strict=True)))
