"""A small scanner for secrets in what an agent is about to publish.

It knows tokens with a fixed shape and almost no false alarms; it is a net, not a proof.
Findings name the file, the line and the kind, never the secret.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from agentcom.model import secret_shapes
from agentcom.model.secret_shapes import Shape

WINDOW_BYTES: Final = 1024 * 1024
"""Searched at a time: between two windows other threads get their turn, and the clock is read."""
SECRET_BYTES_MAX: Final = 8 * 1024
"""What a secret is looked for in: longer than any of these kinds, so that no run of letters is
read again and again."""
FINDINGS_MAX: Final = 100
"""Enough to see what happened."""
UNREAD: Final = "too large to scan"
"""The kind of what the time was too short for."""

_KINDS: Final = (
    Shape("private key", ("-----BEGIN ",), secret_shapes.PEM + r"\s*[A-Za-z0-9+/=\r\n:]"),
    Shape("AgentCom token", ("acm_",), r"\bacm_[a-z]{3}_[A-Za-z0-9]{8}_[A-Za-z0-9]{49}\b"),
    *secret_shapes.KEYS,
    Shape(
        "address with password",
        ("://",),
        r"(?<=[a-z0-9+]{2})://[^/\s:@'\"<>{}$]{1,500}+:[^/\s@'\"<>{}$]{8,2000}+@\w",
    ),
)
# Each kind, the earlier ones first, with the literal that shows where one may begin.
_SIGNS: Final = tuple(
    (order, sign.encode(), re.compile(shape.pattern.encode()))
    for order, shape in enumerate(_KINDS)
    for sign in shape.signs
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A file that holds something that must not leave this machine, or is too large to."""

    path: str
    line: int
    kind: str

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        return f"{self.path}{line}: {self.kind}"


def scan(path: str, content: bytes, *, late: Callable[[], bool] = lambda: False) -> list[Finding]:
    """Return the secrets in one file's content, whatever its size; `late` ends the search."""
    found: list[Finding] = []
    line, counted, free = 1, 0, 0
    for begin in range(0, len(content), WINDOW_BYTES):
        if late():
            return [*found, Finding(path=path, line=0, kind=UNREAD)]
        for start, order, end in sorted(_matches(content, begin)):
            if start < free:
                continue  # a part of the one before
            free = end
            line += content.count(b"\n", counted, start)
            counted = start
            found.append(Finding(path=path, line=line, kind=_KINDS[order].kind))
            if len(found) == FINDINGS_MAX:
                return found
    return found


def _matches(content: bytes, begin: int) -> Iterator[tuple[int, int, int]]:
    """Yield start, kind and end of what begins in one window; it may end in the next."""
    for order, sign, pattern in _SIGNS:
        limit = begin + WINDOW_BYTES + len(sign) - 1
        at = content.find(sign, begin, limit)
        while at >= 0:
            match = pattern.match(content, at, at + SECRET_BYTES_MAX)
            if match is not None:
                yield at, order, match.end()
            at = content.find(sign, at + len(sign) if match is None else match.end(), limit)
