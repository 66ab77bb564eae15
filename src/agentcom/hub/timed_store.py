"""A store whose commits are timed."""

from collections.abc import Callable
from typing import Any, cast

from agentcom.model.batch import Batch
from agentcom.store.base import Store, Verdict


def timed(store: Store, observe: Callable[[float], None], clock: Callable[[], float]) -> Store:
    """Return `store` with the time of every commit observed, in seconds."""
    return cast("Store", _Timed(store, observe, clock))


class _Timed:
    def __init__(
        self, store: Store, observe: Callable[[float], None], clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._observe = observe
        self._clock = clock
        self.get = store.get  # asked every turn: found without `__getattr__`

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, batch: Batch) -> Verdict:
        started = self._clock()
        verdict = await self._store.commit(batch)
        self._observe(self._clock() - started)
        return verdict
