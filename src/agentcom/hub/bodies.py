"""Specifications at hand for pushes: of new tasks until they are pushed, else from the store."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, cast

import msgspec

from agentcom.core.effects import Effect, Push
from agentcom.model.batch import Change, Insert, Table
from agentcom.model.ids import TaskId
from agentcom.model.task import TaskBody
from agentcom.store.base import Store

BODIES_MAX: Final = 4_096  # of tasks that wait for an agent; of more, the newest
_BODY: Final = Table.BODY

replace: Final = msgspec.structs.replace


class Bodies:
    """What the core leaves out of a push when it has it no more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recent: OrderedDict[TaskId, TaskBody] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._recent)

    def remember(self, changes: Sequence[Change]) -> None:
        """Keep the specifications of new tasks: most are pushed soon."""
        for change in changes:
            if change.table is _BODY and isinstance(change, Insert):
                self._recent[TaskId(change.key)] = cast("TaskBody", change.row)

    async def attach(self, effects: Sequence[Effect]) -> Sequence[Effect]:
        """Return effects whose pushes have their specifications with them."""
        found: dict[TaskId, TaskBody | None] = {}
        missing = []
        for effect in effects:
            if isinstance(effect, Push):
                task = effect.assignment.task
                body = self._recent.pop(task, None)
                if effect.body is None:
                    found[task] = body
                    if body is None:
                        missing.append((_BODY, task))
        while len(self._recent) > BODIES_MAX:
            self._recent.popitem(last=False)
        if not found:
            return effects
        for row in await self._store.get(missing) if missing else ():
            if isinstance(row, TaskBody):
                found[row.id] = row
        return [
            replace(effect, body=found.get(effect.assignment.task))
            if isinstance(effect, Push) and effect.body is None
            else effect
            for effect in effects
        ]
