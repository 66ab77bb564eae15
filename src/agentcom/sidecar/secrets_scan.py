"""A small scanner for secrets in what an agent is about to publish.

It knows tokens with a fixed shape and almost no false alarms; it is a net, not a proof.
Findings name the file, the line and the kind, never the secret.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SCAN_BYTES_MAX: Final = 2 * 1024 * 1024
"""Larger files are data; a credential file is small."""
FINDINGS_MAX: Final = 100
"""Enough to see what happened."""

_KINDS: Final[Sequence[tuple[str, bytes]]] = (
    (
        "private key",
        rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s*[A-Za-z0-9+/=\r\n:]",
    ),
    ("AgentCom token", rb"\bacm_[a-z]{3}_[A-Za-z0-9]{8}_[A-Za-z0-9]{49}\b"),
    ("GitHub token", rb"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})"),
    ("GitLab token", rb"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("AWS key", rb"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
    ("Slack token", rb"\bxox[abeoprs]-[A-Za-z0-9-]{20,}"),
    ("Anthropic key", rb"\bsk-ant-[A-Za-z0-9_-]{30,}"),
    ("OpenAI key", rb"\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{40,}"),
    ("Google key", rb"\bAIza[A-Za-z0-9_-]{35}\b"),
    ("Stripe key", rb"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    ("npm token", rb"\bnpm_[A-Za-z0-9]{36}\b"),
    ("PyPI token", rb"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"),
    ("JSON web token", rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"),
    (
        "address with password",
        rb"\b[a-z][a-z0-9+]{1,15}://[^/\s:@'\"<>{}$]+:[^/\s@'\"<>{}$]{8,}@\w",
    ),
)
_NAMES: Final = tuple(name for name, _ in _KINDS)
_ANY: Final = re.compile(b"|".join(b"(" + pattern + b")" for _, pattern in _KINDS))
# One cheap look for a part that each kind must have, before the slower search.
_HINT: Final = re.compile(
    rb"PRIVATE KEY|acm_|gh[pousr]_|github_pat_|glpat-|A[KS]IA|xox|sk-|AIza|k_live_|npm_"
    rb"|pypi-Ag|eyJ|://"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A file that holds something that must not leave this machine, or is too large to."""

    path: str
    line: int
    kind: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}"


def scan(path: str, content: bytes) -> list[Finding]:
    """Return the secrets in one file's content."""
    if len(content) > SCAN_BYTES_MAX or _HINT.search(content) is None:
        return []
    found = []
    for match in _ANY.finditer(content):
        assert match.lastindex is not None
        line = content.count(b"\n", 0, match.start()) + 1
        found.append(Finding(path=path, line=line, kind=_NAMES[match.lastindex - 1]))
        if len(found) == FINDINGS_MAX:
            break
    return found
