"""Tokens are made here, and compared here; the store sees only their SHA-256.

A fast hash is right: the secret has 256 random bits, so there is nothing to guess, and a storm
of 5,000 reconnects costs milliseconds.
"""

import hashlib
import hmac
import secrets
from typing import Final, NamedTuple

from agentcom.model import token_text
from agentcom.model.identity import CredentialKind

_BASE: Final = 62
_DUMMY: Final = hashlib.sha256(b"no such token").hexdigest()


class Minted(NamedTuple):
    """A new token. `text` is shown once and kept nowhere."""

    id: str
    text: str
    digest: str


def mint(kind: CredentialKind) -> Minted:
    """Return a new token of `kind`."""
    key_id = _random(token_text.ID_CHARS)
    text = token_text.compose(kind, key_id, _random(token_text.SECRET_CHARS))
    return Minted(key_id, text, digest(text))


def digest(text: str) -> str:
    """Return what the store keeps of a token."""
    return hashlib.sha256(text.encode()).hexdigest()


def matches(text: str, stored: str | None) -> bool:
    """Return whether `text` is the token of digest `stored`; as slow for None (no such token)."""
    same = hmac.compare_digest(digest(text), _DUMMY if stored is None else stored)
    return same and stored is not None


def _random(length: int) -> str:
    return token_text.encode_base62(secrets.randbelow(_BASE**length), length=length)
