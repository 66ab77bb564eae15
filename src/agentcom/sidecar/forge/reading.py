"""What the three kinds of forge's answers have in common, read with bounds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from agentcom.sidecar.forge.base import (
    COMMENT_CHARS_MAX,
    FAILED_CHECKS_MAX,
    Author,
    Comment,
    FailedCheck,
    PullRequest,
)

_NAME_CHARS: Final = 200


def text_of(found: object, name: str) -> str:
    """Return a text of an answer; "" if it is not there."""
    value = found.get(name) if isinstance(found, Mapping) else None
    return value if isinstance(value, str) else ""


def number_of(pull: PullRequest) -> int:
    """Return the number of a pull request: the newest has the greatest."""
    return pull.number


def commented(
    sort: str,
    one: Mapping[str, Any],
    author: Author,
    *,
    path: object = None,
    line: object = None,
    wants: bool = False,
    approves: bool = False,
) -> Comment:
    """Return a comment of an answer; `sort` tells it from others with the same number."""
    return Comment(
        id=f"{sort}{int(one['id'])}",
        author=author,
        body=text_of(one, "body")[:COMMENT_CHARS_MAX],
        at=text_of(one, "created_at"),
        path=path[:_NAME_CHARS] if isinstance(path, str) and path else None,
        line=line if isinstance(line, int) and line > 0 else None,
        wants=wants,
        approves=approves,
    )


def failed(rows: Iterable[tuple[object, object]]) -> Sequence[FailedCheck]:
    """Return the first of the checks that failed, each name once."""
    found: dict[str, FailedCheck] = {}
    for name, url in rows:
        shown = str(name or "unnamed")[:_NAME_CHARS]
        found.setdefault(shown, FailedCheck(shown, str(url or "")[:_NAME_CHARS]))
    return list(found.values())[:FAILED_CHECKS_MAX]
