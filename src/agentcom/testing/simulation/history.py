"""Checks that assigning and completing look as if done one after the other, from outside.

It knows nothing of the hub's journal: only what machines were told and when. For each task it
searches an order of all operations that respects real time and the sequential specification of a
fenced register (Wing and Gong, 1993; with the memory of visited states of Lowe, 2017).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from agentcom.model.ids import Fence, TaskId

EVER: Final = 1 << 62


@dataclass(slots=True)
class Operation:
    """One operation as its observer saw it: it took effect between both moments."""

    fence: Fence
    began_us: int
    ended_us: int
    applied: bool | None
    """Of a completion: what the hub answered; None for an assignment."""


@dataclass(frozen=True, slots=True)
class _State:
    newest: Fence
    open: bool


class History:
    """What machines saw of all tasks."""

    def __init__(self) -> None:
        self._operations: dict[TaskId, list[Operation]] = {}
        self._unknown: dict[TaskId, None] = {}
        """Tasks from before a restore: what became of their attempts nobody can tell."""
        self._waiting: dict[tuple[TaskId, Fence, str], Operation] = {}

    def assigned(self, task: TaskId, fence: Fence, now_us: int) -> None:
        """Note that a machine was told of an attempt."""
        mine = self._operations.setdefault(task, [])
        if not any(one.applied is None and one.fence == fence for one in mine):
            mine.append(Operation(fence, 0, now_us, None))

    def reported(self, task: TaskId, fence: Fence, machine: str, now_us: int) -> None:
        """Note that a machine sends a result for the first time."""
        self._waiting.setdefault((task, fence, machine), Operation(fence, now_us, EVER, True))

    def answered(
        self, task: TaskId, fence: Fence, machine: str, now_us: int, *, applied: bool
    ) -> None:
        """Note the hub's first answer to a result."""
        operation = self._waiting.get((task, fence, machine))
        if operation is not None and operation.ended_us == EVER:
            operation.ended_us, operation.applied = now_us, applied
            self._operations.setdefault(task, []).append(operation)

    def clear(self) -> None:
        """Begin anew: the hub was restored to an earlier state."""
        self._unknown.update(dict.fromkeys(self._operations))
        self._operations.clear()
        self._waiting.clear()

    def problems(self, besides: Collection[TaskId] = ()) -> Sequence[str]:
        """Return the tasks whose history has no order; of some nobody can tell."""
        return [
            f"task {task}: {operations}"
            for task, operations in self._operations.items()
            if task not in self._unknown and task not in besides
            if not is_linearizable(operations)
        ]


def is_linearizable(operations: Sequence[Operation]) -> bool:
    """Return whether some order of `operations` respects real time and the specification."""
    everything = (1 << len(operations)) - 1
    seen: set[tuple[int, _State]] = set()
    stack = [(0, _State(Fence(0, 0), open=False))]
    while stack:
        done, state = stack.pop()
        if done == everything:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        left = [at for at in range(len(operations)) if not done >> at & 1]
        first_end = min(operations[at].ended_us for at in left)
        for at in left:
            if operations[at].began_us <= first_end:
                after = _apply(state, operations[at])
                if after is not None:
                    stack.append((done | 1 << at, after))
    return False


def _apply(state: _State, operation: Operation) -> _State | None:
    """Return the state after an operation; None if it cannot come here."""
    if operation.applied is None:
        above = operation.fence > state.newest
        return _State(operation.fence, open=True) if above else None
    if operation.applied:
        current = state.newest == operation.fence and state.open
        return _State(state.newest, open=False) if current else None
    return state  # refused: the hub may have ended the attempt by itself at any time
