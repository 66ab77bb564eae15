"""Takes secrets out of text that leaves the process: logs, errors, traces, bundles.

A net, not a proof: it knows the hub's own tokens (by their checksum, so without false alarms), the
common keys with a fixed shape, what stands behind a name such as `password=`, and the exact secrets
that it is told. It never was a licence to log a token. Its time grows with the text, no faster.
"""

import functools
import json
import re
from collections.abc import Collection, Mapping
from typing import Final

from agentcom.model import secret_shapes, token_text

GONE: Final = "[redacted]"
SECRET_CHARS_MIN: Final = 8  # a shorter exact secret would blank out ordinary words
SECRET_CHARS_MAX: Final = 8_192  # longer than any key with a known shape; what a cut must allow for
DEPTH_MAX: Final = 8  # of values in values; what lies deeper is not shown
NEVER_SHOWN: Final = frozenset(
    {"token", "secret", "password", "authorization", "cookie", "prompt", "payload", "body"}
)

_SIGNS: Final = (
    *(sign for shape in secret_shapes.KEYS for sign in shape.signs),
    *("PRIVATE KEY", "acm_", "hooks.slack", "://", "earer ", "asic "),
)
"""Without one of these a text has nothing that only its shape tells."""
_KEYS: Final = re.compile(
    "|".join(
        (
            rf"{secret_shapes.PEM}.*?(?:{secret_shapes.PEM.replace('BEGIN', 'END')}|\Z)",
            *(shape.pattern for shape in secret_shapes.KEYS),
            r"hooks\.slack\.com/services/[A-Za-z0-9/_-]{20,}",
            r"(?<=earer )(?!acm_)[A-Za-z0-9._~+/-]{20,}=*",
            r"(?<=asic )[A-Za-z0-9+/]{12,}=*",
        )
    ),
    re.DOTALL,
)
_PASSWORD: Final = re.compile(
    r"((?<![a-z0-9+])[a-z][a-z0-9+]{1,15}://[^/\s:@'\"<>]{0,500}+:)[^/\s@'\"<>]{1,2000}+(?=@)"
)
_NAMES: Final = (
    *("password", "passwd", "passphrase", "secret", "token", "authorization"),
    *("apikey", "api_key", "api-key", "access_key", "access-key", "private_key", "private-key"),
)
_NAMED: Final = re.compile(
    rf"((?:{'|'.join(_NAMES)})(?:\\?[\"'])?\s{{0,3}}(=|:)\s{{0,3}}(?:\\?[\"'])?)"
    r"(?!\[redacted\]|acm_)([^\s\"'\\,;&]{8,2000}+)",
    re.IGNORECASE,
)
_SECRET_VARIABLE: Final = re.compile(
    r"(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|PASS|API_?KEY|ACCESS_KEY|PRIVATE_KEY|_KEY|_PAT)$",
    re.IGNORECASE,
)


def redact(text: str, secrets: Collection[str] = ()) -> str:
    """Return `text` without tokens, keys and the given exact secrets; own tokens keep their id."""
    for secret in secrets:
        if len(secret) >= SECRET_CHARS_MIN:
            for form in _forms(secret):
                text = text.replace(form, GONE)
    if any(sign in text for sign in _SIGNS):
        text = token_text.PATTERN.sub(_own, text)
        text = _PASSWORD.sub(rf"\1{GONE}", text)
        text = _KEYS.sub(GONE, text)
    lower = text.lower()
    if any(name in lower for name in _NAMES):
        text = _NAMED.sub(_named, text)
    return text


def excerpt(text: str, chars: int, secrets: Collection[str] = ()) -> str:
    """Return the beginning of `text`, redacted before it is cut: half a token looks like none."""
    looked_at = chars + 2 * SECRET_CHARS_MAX
    shown = redact(text[:looked_at], secrets)
    if len(text) > looked_at:  # a secret that begins there may have lost its end
        shown = shown[: max(0, len(shown) - SECRET_CHARS_MAX)]
    return shown[:chars]


def ending(text: str, chars: int, secrets: Collection[str] = ()) -> str:
    """Return the end of `text`, redacted before it is cut."""
    looked_at = chars + 2 * SECRET_CHARS_MAX
    shown = redact(text[-looked_at:], secrets)
    if len(text) > looked_at:  # a secret that ends there may have lost its beginning
        shown = shown[SECRET_CHARS_MAX:]
    return shown[-chars:]


def cleaned(value: object, chars: int, secrets: Collection[str] = (), *, depth: int = 0) -> object:
    """Return a value made of mappings, lists and texts with every text in it redacted and bounded.

    What stands under a name of `NEVER_SHOWN` is blanked out, whatever it is.
    """
    if isinstance(value, str):
        return excerpt(value, chars, secrets)
    if depth >= DEPTH_MAX:
        return GONE
    if isinstance(value, Mapping):
        return {
            name: GONE
            if str(name).lower() in NEVER_SHOWN
            else cleaned(one, chars, secrets, depth=depth + 1)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [cleaned(one, chars, secrets, depth=depth + 1) for one in value]
    return value


def secrets_of(environment: Mapping[str, str]) -> set[str]:
    """Return the values of variables whose names say that they are secret; paths are none."""
    return {
        value
        for name, value in environment.items()
        if _SECRET_VARIABLE.search(name)
        and len(value) >= SECRET_CHARS_MIN
        and not value.startswith(("/", "~", "./"))
    }


@functools.lru_cache(maxsize=256)
def _forms(secret: str) -> tuple[str, ...]:
    """Return a secret as it is, and as Python and JSON write it inside other text."""
    return tuple({secret: None, repr(secret)[1:-1]: None, json.dumps(secret)[1:-1]: None})


def _own(match: re.Match[str]) -> str:
    if not token_text.is_genuine(match):
        return match[0]
    return f"acm_{match[1]}_{match[2]}_{GONE}"


def _named(match: re.Match[str]) -> str:
    """Blank out a value behind a secret's name; after a colon words of prose are left alone."""
    if match[2] == ":" and match[3].isalpha():
        return match[0]
    return match[1] + GONE
