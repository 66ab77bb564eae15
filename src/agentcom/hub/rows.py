"""Rows that are no pool's (tokens, users) are written by row version, without a term."""

from collections.abc import Sequence
from typing import assert_never

from agentcom.model.audit import AuditNote
from agentcom.model.batch import Batch, Change
from agentcom.model.errors import StorageFull, Unavailable
from agentcom.model.ids import DEFAULT_POOL, BatchId, IdSource
from agentcom.store.base import Committed, Conflict, Full, Store, TermLost
from agentcom.store.failures import CommitUnknown


async def write(
    store: Store,
    ids: IdSource,
    *changes: Change,
    forgets: tuple[tuple[int, int], ...] = (),
    audits: Sequence[AuditNote] = (),
) -> bool:
    """Commit `changes` together; return False if a row was not as expected.

    `forgets` are records that go, as in `Batch`; `audits` go to the audit log, as there.

    Whoever gets False reads the rows again: versions keep a write from counting twice.

    Raises:
        StorageFull: there is no room; nothing was written.
    """
    batch = Batch(
        id=BatchId(ids.new()),
        pool=DEFAULT_POOL,
        changes=changes,
        forgets=forgets,
        audits=tuple(audits),
    )
    try:
        verdict = await store.commit(batch)
    except CommitUnknown:
        return await store.outcome(batch.id)
    match verdict:
        case Committed():
            return True
        case Conflict():
            return False
        case Full():
            raise StorageFull("the disk is full: nothing was stored; free some space")
        case TermLost():
            raise Unavailable("another hub writes to this store; ask again")
        case _:
            assert_never(verdict)
