"""For which attempt a machine calls over HTTP: two headers beside its token.

A `call` frame has the same two as fields.
"""

from collections.abc import Mapping
from typing import Final

from agentcom.model.errors import InvalidInput
from agentcom.model.ids import Fence, TaskId
from agentcom.model.numerals import whole

TASK: Final = "agentcom-task"
FENCE: Final = "agentcom-fence"


def headers(task: TaskId, fence: Fence) -> dict[str, str]:
    """Return what a machine sends with the calls of an attempt."""
    return {TASK: task, FENCE: f"{fence.incarnation}.{fence.attempt}"}


def named(given: Mapping[str, str]) -> tuple[TaskId, Fence] | None:
    """Return the attempt that the headers of a request name; None if they name none.

    Raises:
        InvalidInput: one of the two is missing, or they are malformed.
    """
    task, fence = given.get(TASK), given.get(FENCE)
    if task is None and fence is None:
        return None
    if not task or fence is None:
        raise InvalidInput(FENCE if task else TASK, f"{TASK} and {FENCE} come together")
    return TaskId(task), _fence(fence)


def _fence(text: str) -> Fence:
    incarnation, attempt = (whole(part) for part in text.partition(".")[::2])
    if incarnation is None or attempt is None:
        raise InvalidInput(FENCE, "it is INCARNATION.ATTEMPT")
    return Fence(incarnation, attempt)
