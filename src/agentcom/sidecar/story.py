"""What every log record about an attempt bears, so that one search shows a task's whole story.

The cause comes with the assignment: it is the request that the task was submitted with.
"""

import contextlib
from collections.abc import Mapping

import structlog

from agentcom.sidecar.machine_values import Attempt, Key, Record


def of(record: Record) -> dict[str, str]:
    """Return the fields of a record about an attempt."""
    said = record.assignment
    fence = f"{said.fence.incarnation}.{said.fence.attempt}"
    return {"cause": said.cause, "task": said.task, "fence": fence, "agent": said.agent}


def known(attempts: Mapping[Key, Attempt], key: Key) -> dict[str, str]:
    """Return the same of an attempt that may be over; then only what names it."""
    attempt = attempts.get(key)
    if attempt is not None:
        return of(attempt.record)
    return {"task": key.task, "fence": f"{key.fence.incarnation}.{key.fence.attempt}"}


def told(fields: Mapping[str, str]) -> contextlib.AbstractContextManager[None]:
    """Let all that is logged from here on bear these fields, by tasks that begin here, too."""
    return structlog.contextvars.bound_contextvars(**fields)
