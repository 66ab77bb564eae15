"""Specifications at hand for pushes: of new tasks until they are pushed, else from the store."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from agentcom.core.effects import Effect, Push
from agentcom.model.ask import Ask
from agentcom.model.batch import Change, Insert, Table, Update
from agentcom.model.ids import TaskId
from agentcom.model.task import TaskBody
from agentcom.store.base import Store

CHARS_MAX: Final = 16_777_216  # of tasks that wait for an agent; of more, the newest
_OTHER_CHARS: Final = 512  # what a specification takes beside its prompt, about
_BODY: Final = Table.BODY


class Bodies:
    """What the core leaves out of a push when it has it no more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recent: OrderedDict[TaskId, TaskBody] = OrderedDict()
        self._chars = 0

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._recent)

    def remember(self, changes: Sequence[Change]) -> None:
        """Keep the specifications of new tasks: most are pushed soon."""
        for change in changes:
            if change.table is not _BODY:
                continue
            if isinstance(change, Update):  # it was edited: the store has it
                self._forget(change.key)
            elif isinstance(change, Insert):
                assert isinstance(change.row, TaskBody), "its table says so"
                self._recent[change.row.id] = change.row
                self._chars += _chars(change.row)
        while self._chars > CHARS_MAX:
            self._chars -= _chars(self._recent.popitem(last=False)[1])

    async def attach(self, effects: Sequence[Effect]) -> Sequence[Effect]:
        """Return effects whose pushes have their specifications with them."""
        attached, missing = list(effects), []
        for at, effect in enumerate(effects):
            if type(effect) is Push:
                body = self._forget(effect.assignment.task)
                if effect.body is None and body is not None:
                    attached[at] = Push(effect.machine, effect.assignment, body)
                elif effect.body is None:
                    missing.append((at, effect))
        if missing:
            rows = await self._store.get([(_BODY, push.assignment.task) for _, push in missing])
            for (at, push), row in zip(missing, rows, strict=True):
                if isinstance(row, TaskBody):
                    attached[at] = Push(push.machine, push.assignment, row)
        return await self._with_asks(attached)

    async def _with_asks(self, effects: list[Effect]) -> Sequence[Effect]:
        """Add the questions that pushes name, with their answers: few tasks have some."""
        for at, effect in enumerate(effects):
            if type(effect) is Push and effect.assignment.answered:
                keys = [(Table.ASK, ask) for ask in effect.assignment.answered]
                rows = await self._store.get(keys)
                asks = tuple(row for row in rows if isinstance(row, Ask))
                effects[at] = Push(effect.machine, effect.assignment, effect.body, asks)
        return effects

    def _forget(self, task: str) -> TaskBody | None:
        body = self._recent.pop(TaskId(task), None)
        if body is not None:
            self._chars -= _chars(body)
        return body


def _chars(body: TaskBody) -> int:
    return len(body.spec.prompt) + sum(map(len, body.spec.command)) + _OTHER_CHARS
