"""Limits that people set on what work has in common, and what is used of them.

A scope is `kind:name`: `project:api`, `submitter:ann`, `repo:host/path`, `branch:host/path#main`
or `key:deploy`. A rule for `kind:*` holds for each name by itself, unless that name has its own.
"""

import re
from typing import Final

import msgspec

from agentcom.model import errors, limits
from agentcom.model.ids import WallTime

COUNT_MAX: Final = 1_000_000
PERIOD_MIN_MS: Final = 1_000
PERIOD_MAX_MS: Final = 31 * 86_400_000
WEIGHT_MIN: Final = 0.01
KINDS: Final = ("project", "submitter", "repo", "branch", "key")
EVERY: Final = "*"
_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/#@+-]*")
_REMOTE: Final = re.compile(r"(?:[a-z+]+://(?:[^@/]*@)?|[^@/:]+@)?(.*?)(?:\.git)?/?")


class Limit(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a person allows in one scope; None means no bound."""

    scope: str
    concurrency: int | None = None
    """Attempts at the same time; 0 lets nothing start."""
    rate: int | None = None
    """Attempts that may start per `per_ms`, in a burst or spread."""
    per_ms: int = 0
    weight: float | None = None
    """Share of the fleet beside others of its kind; 1 where nothing is said."""
    version: int = 1


class Usage(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a rate has given out: the time by which it will have been earned (GCRA, ITU I.371)."""

    scope: str
    earned_at: WallTime
    version: int = 1


def scope_rule(scope: str) -> str:
    """Return the scope `kind:*` that a scope falls under."""
    return f"{scope.partition(':')[0]}:{EVERY}"


def check_scope(scope: str) -> None:
    """Raise `InvalidInput` if a limit cannot be set on `scope`."""
    kind, colon, name = scope.partition(":")
    if kind not in KINDS or not colon or not name or len(scope) > limits.SCOPE_GLOB_CHARS:
        kinds = ", ".join(f"{kind}:NAME" for kind in KINDS)
        raise errors.InvalidInput("scope", f"write one of {kinds}; * stands for each name")
    if not scope.isprintable():
        raise errors.InvalidInput("scope", "no control characters")


def check(limit: Limit) -> None:
    """Raise `InvalidInput` if a rule makes no sense."""
    check_scope(limit.scope)
    if limit.concurrency is not None and not 0 <= limit.concurrency <= COUNT_MAX:
        raise errors.InvalidInput("concurrency", f"from 0 to {COUNT_MAX}")
    if (limit.rate is None) != (limit.per_ms == 0):
        raise errors.InvalidInput("rate", "give the number and the time together: 10/1h")
    if limit.rate is not None and not 1 <= limit.rate <= COUNT_MAX:
        raise errors.InvalidInput("rate", f"from 1 to {COUNT_MAX}")
    if limit.rate is not None and not PERIOD_MIN_MS <= limit.per_ms <= PERIOD_MAX_MS:
        raise errors.InvalidInput("per_ms", "from one second to 31 days")
    if limit.weight is not None and not WEIGHT_MIN <= limit.weight <= limits.WEIGHT_MAX:
        raise errors.InvalidInput("weight", f"from {WEIGHT_MIN} to {limits.WEIGHT_MAX}")
    if limit.weight is not None and not limit.scope.startswith(("project:", "submitter:")):
        raise errors.InvalidInput("weight", "only a project or a submitter has a share")
    if limit.concurrency is None and limit.rate is None and limit.weight is None:
        raise errors.InvalidInput("limit", "give concurrency, rate or weight")


def check_key(key: str) -> None:
    """Raise `InvalidInput` if a task cannot name `key`."""
    if len(key) > limits.KEY_CHARS or _KEY.fullmatch(key) is None:
        rule = f"at most {limits.KEY_CHARS} of letters, digits and . _ : / # @ + -"
        raise errors.InvalidInput("keys", rule)


def repository_name(repo: str) -> str:
    """Return a repository's address without scheme, login and `.git`: the name in scopes."""
    found = _REMOTE.fullmatch(repo)
    return found[1] if found is not None and found[1] else repo
