"""Work of two attempts that does not go together, found before either lands."""

import msgspec

from agentcom.model.ids import TaskId


class Clash(msgspec.Struct, frozen=True, gc=False):
    """What a trial merge with another task's newest checkpoint came to."""

    task: TaskId
    paths: tuple[str, ...] = ()
    """Files in conflict, the first of them; none if what was in conflict is so no more."""
