"""Takes secrets out of text that leaves the process: logs, errors, outbound messages.

A net, not a proof: it knows the hub's own tokens (by their checksum, so without false alarms)
and the common keys with a fixed shape. It never was a licence to log a token.
"""

import re
from collections.abc import Collection
from typing import Final

from agentcom.model import token_text

GONE: Final = "[redacted]"
SECRET_CHARS_MIN: Final = 8  # a shorter exact secret would blank out ordinary words

_HINT: Final = re.compile(
    r"PRIVATE KEY|acm_|gh[pousr]_|github_pat_|glpat-|A[KS]IA|xox|sk-|AIza|k_live_|npm_"
    r"|pypi-Ag|eyJ|://|earer"
)
_KEYS: Final = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----.*?"
    r"(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)"
    r"|\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})"
    r"|\bglpat-[A-Za-z0-9_-]{20,}"
    r"|\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"
    r"|\bAIza[A-Za-z0-9_-]{35}\b"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{20,}"
    r"|\bsk-ant-[A-Za-z0-9_-]{30,}"
    r"|\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{40,}"
    r"|\b[rs]k_live_[A-Za-z0-9]{20,}"
    r"|\bnpm_[A-Za-z0-9]{36}\b"
    r"|\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"
    r"|(?<=earer )(?!acm_)[A-Za-z0-9._~+/-]{20,}=*",
    re.DOTALL,
)
_PASSWORD: Final = re.compile(r"(\b[a-z][a-z0-9+]{1,15}://[^/\s:@'\"<>]*:)[^/\s@'\"<>]+(?=@)")


def redact(text: str, secrets: Collection[str] = ()) -> str:
    """Return `text` without tokens, keys and the given exact secrets; own tokens keep their id."""
    for secret in secrets:
        if len(secret) >= SECRET_CHARS_MIN:
            text = text.replace(secret, GONE)
    if _HINT.search(text) is None:
        return text
    text = token_text.PATTERN.sub(_own, text)
    text = _PASSWORD.sub(rf"\1{GONE}", text)
    return _KEYS.sub(GONE, text)


def _own(match: re.Match[str]) -> str:
    if not token_text.is_genuine(match):
        return match[0]
    return f"acm_{match[1]}_{match[2]}_{GONE}"
