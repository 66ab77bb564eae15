"""The text of tokens: `acm_<kind>_<key id>_<secret><checksum>`.

The CRC-32 covers everything before it, so that a typing error, a cut-off copy or garbage is told
without a look into the store, and a scanner tells a real token from a look-alike. Minting and
comparing are elsewhere: they need chance and the store.
"""

import re
import zlib
from typing import Final, NamedTuple

from agentcom.model.identity import CredentialKind

ID_CHARS: Final = 8
SECRET_CHARS: Final = 43  # of base 62: 256 bits
CHECKSUM_CHARS: Final = 6  # of base 62: 32 bits
TOKEN_CHARS_MAX: Final = 256  # with an appended fingerprint; more is not looked at

PATTERN: Final = re.compile(
    r"(?<![0-9A-Za-z])acm_([a-z]{3})_([0-9A-Za-z]{8})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})(?![0-9A-Za-z])"
)
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KINDS: Final = {kind.value: kind for kind in CredentialKind}


class TokenText(NamedTuple):
    """A well-formed token: what it names, and the part to be digested."""

    kind: CredentialKind
    id: str
    text: str


def encode_base62(value: int, *, length: int) -> str:
    """Return `value` as exactly `length` base 62 digits."""
    digits = []
    for _ in range(length):
        value, digit = divmod(value, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def compose(kind: CredentialKind, key_id: str, secret: str) -> str:
    """Return the text of a token, checksum included."""
    head = f"acm_{kind}_{key_id}_{secret}"
    return head + _checksum(head)


def parse(text: str) -> TokenText | None:
    """Return what a token's text names; None if it is malformed. A fingerprint is cut off."""
    if len(text) > TOKEN_CHARS_MAX:
        return None
    own, _, _ = text.strip().partition("@")
    match = PATTERN.fullmatch(own)
    if match is None or not is_genuine(match):
        return None
    kind = _KINDS.get(match[1])
    return None if kind is None else TokenText(kind, match[2], own)


def is_genuine(match: re.Match[str]) -> bool:
    """Return whether the checksum of a match of `PATTERN` is right."""
    return _checksum(match[0][:-CHECKSUM_CHARS]) == match[4]


def _checksum(head: str) -> str:
    return encode_base62(zlib.crc32(head.encode()), length=CHECKSUM_CHARS)
