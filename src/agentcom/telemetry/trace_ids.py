"""Ids of traces and spans, made from the names of what they are about: no state, the same anywhere.

A task is one trace. If it was submitted with a `traceparent`, its trace is that one; else its id
comes from the cause and the task. So hub, sidecar and agent agree without a word.
"""

import hashlib
import re
from typing import Final

from agentcom.model.ids import TaskId

_TRACE: Final = re.compile(r"[0-9a-f]{32}")
_NONE: Final = "0" * 32  # which the standard forbids


def trace_id(cause: str, task: TaskId) -> str:
    """Return the trace of a task, as 32 hexadecimal digits."""
    if _TRACE.fullmatch(cause) and cause != _NONE:
        return cause
    return _digest(f"trace {cause} {task}")[:32]


def span_id(task: TaskId, what: str) -> str:
    """Return the span of a part of a task's life, as 16 hexadecimal digits."""
    return _digest(f"span {task} {what}")[:16]


def attempt(number: int) -> str:
    """Return how an attempt is named for `span_id`."""
    return f"attempt {number}"


def traceparent(cause: str, task: TaskId, number: int) -> str:
    """Return what lets an agent's own spans go on below that of its attempt."""
    return f"00-{trace_id(cause, task)}-{span_id(task, attempt(number))}-01"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
