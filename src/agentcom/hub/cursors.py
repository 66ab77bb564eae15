"""Cursors of listings: opaque, signed, and good for one caller and one listing only."""

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

from agentcom.model.errors import InvalidInput
from agentcom.model.identity import Identity

SIGNATURE_BYTES: Final = 16
KEY_BYTES: Final = 32
CURSOR_CHARS_MAX: Final = 1_024


class Cursors:
    """Makes and reads cursors; those of an earlier process of the hub are not accepted."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(KEY_BYTES)

    def make(self, identity: Identity, listing: str, place: str) -> str:
        """Return a cursor to what comes after `place` in `listing` (its filters included)."""
        signature = self._sign(identity, listing, place)
        return base64.urlsafe_b64encode(signature + place.encode()).rstrip(b"=").decode()

    def read(self, identity: Identity, listing: str, cursor: str) -> str:
        """Return the place of a cursor.

        Raises:
            InvalidInput: it was made for someone else, another listing, or by nobody.
        """
        wrong = InvalidInput("cursor", "it is not from this listing; start without one")
        if len(cursor) > CURSOR_CHARS_MAX or not cursor.isascii():
            raise wrong
        try:
            data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
            place = data[SIGNATURE_BYTES:].decode()
        except (binascii.Error, UnicodeDecodeError):
            raise wrong from None
        if not hmac.compare_digest(data[:SIGNATURE_BYTES], self._sign(identity, listing, place)):
            raise wrong
        return place

    def _sign(self, identity: Identity, listing: str, place: str) -> bytes:
        caller = f"{identity.project}\0{identity.user}\0{identity.role}"
        text = f"{caller}\0{listing}\0{place}"
        return hmac.digest(self._key, text.encode(), hashlib.sha256)[:SIGNATURE_BYTES]
