"""What a provider said of a quota, where a program passes it on as a mere rate limit.

Some programs tell only that there were too many requests, and write the provider's own words to
their log. An agent can write that log too, so its words decide nothing but that.
"""

import os
import re
import stat
from pathlib import Path
from typing import Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.sidecar import attempt_files
from agentcom.sidecar.runtime import agent_cli, base

TAIL_BYTES: Final = 64 << 10
"""Of a log only its end is looked at: the last answer of the provider counts."""

_TOO_MANY: Final = re.compile(r"\b429\b\W+\w+\W+\w+")
"""The code alone says nothing."""
_SESSION: Final = re.compile(r"[\w-]{1,64}")
_STAMP: Final = re.compile(r"^(\d{4}-\d\d-\d\dT\S+\s+)?(\[[\w:.-]+\]\s*)*")
"""When and where a line was logged; a time in it is no reset."""


def corrected(verdict: base.Verdict, attempt_dir: Path) -> base.Verdict:
    """Return the verdict on a run, as a quota if that is what its rate limit was."""
    if verdict.failure is not FailureClass.RATE_LIMIT:
        return verdict
    logs = [attempt_dir / attempt_files.STDERR, _own(attempt_dir, verdict.session or "")]
    for said in (_newest(log) for log in logs if log is not None):
        if agent_cli.classify(said) is FailureClass.QUOTA:
            return msgspec.structs.replace(verdict, failure=FailureClass.QUOTA, message=said)
    return verdict


def _own(attempt_dir: Path, session: str) -> Path | None:
    """Return the log that the program keeps in its home, unless a link leads elsewhere."""
    try:
        home, _, name = (
            (attempt_dir / attempt_files.PROVIDER_LOG).read_text("utf-8").partition("\n")
        )
        if not name or not _SESSION.fullmatch(session):
            return None
        log = Path(home).resolve(strict=True) / name.format(session=session)
        return log if log.parent.resolve(strict=True) == log.parent else None
    except (OSError, ValueError):
        return None


def _newest(log: Path) -> str:
    """Return the last answer of that kind in a log; empty if there is none."""
    try:
        handle = os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return ""
        file.seek(max(0, found.st_size - TAIL_BYTES))
        lines = file.read(TAIL_BYTES).decode("utf-8", "replace").splitlines()
    said = next((line for line in reversed(lines) if _TOO_MANY.search(line)), "")
    return _STAMP.sub("", said)[: agent_cli.MESSAGE_CHARACTERS_MAX]
