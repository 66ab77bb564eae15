"""Turns on the processor that are short, for everything that is measured.

Where other programs keep all cores busy, whoever wakes up waits for somebody's turn to end: an
fdatasync that takes 0.1 ms seems to take 4. A process that asks for short turns has no larger
share of the processor, but begins its turn sooner, so that the figures come nearer to those of a
quiet machine. All systems of a comparison get the same.
"""

import ctypes
import platform
import struct
from typing import Final

SLICE_NS: Final = 500_000
_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
_SIZE: Final = 56


def shorten() -> bool:
    """Ask for short turns for this process and those it starts; return whether that worked.

    It needs Linux 6.12 or newer, which gives a process of the default policy the slice it asks for.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    version = tuple(int(part) for part in platform.release().split(".")[:2] if part.isdigit())
    if platform.system() != "Linux" or number is None or version < (6, 12):
        return False
    # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, clamps
    wanted = struct.pack("=IIQiIQQQII", _SIZE, 0, 0, 0, 0, SLICE_NS, 0, 0, 0, 0)
    done: int = ctypes.CDLL(None).syscall(number, 0, wanted, 0)
    return done == 0


def words(*, short: bool) -> str:
    """Return what the reader of the figures must know."""
    if not short:
        return "Turns on the processor were the system's."
    return f"All processes under test asked for turns of {SLICE_NS / 1e6:g} ms (bench/slices.py)."
