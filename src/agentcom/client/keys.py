"""Request keys."""

import secrets
import time
from typing import Final

_KEY_BYTES: Final = 12


def new_key() -> str:
    """Return a request key that nobody has used; it sorts by time, which spares the store."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(_KEY_BYTES)}"
