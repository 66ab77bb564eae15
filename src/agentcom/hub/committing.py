"""One commit, and what became of it if the store cannot say at once."""

from collections.abc import Sequence
from typing import Final

from agentcom.model.batch import Append, Batch
from agentcom.store.base import Committed, Conflict, Store, Verdict
from agentcom.store.failures import CommitUnknown

_FEED_MAX: Final = 1 << 20  # records of one feed that are looked through; there are never so many


async def commit(store: Store, batch: Batch) -> Verdict:
    """Write a batch and return its verdict, which is never unknown."""
    try:
        return await store.commit(batch)
    except CommitUnknown:
        # Requests without a key must not happen twice, so the store has to say what it did.
        if not await store.outcome(batch.id):
            return Conflict(())
        return Committed(await _place(store, batch.appends))


async def _place(store: Store, appends: Sequence[Append]) -> int:
    """Return the sequence number that the first of some committed records got."""
    for append in appends[:1]:
        records = await store.read(append.log, 0, _FEED_MAX)
        places = [r.seq for r in records if r.record == append.record]
        return places[-appends.count(append)]  # two can say the same in one batch
    return 0
