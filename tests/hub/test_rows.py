import pytest

from agentcom.hub.rows import write
from agentcom.model.batch import Batch, Insert, Table
from agentcom.model.errors import StorageFull, Unavailable
from agentcom.model.identity import Role, User
from agentcom.model.ids import UserId, WallTime
from agentcom.store.base import Full, TermLost, Verdict
from agentcom.store.failures import CommitUnknown
from agentcom.store.memory import MemoryStore
from tests.hub.doubles import CountingIds

ADA = Insert(Table.USER, "ada", User(id=UserId("ada"), role=Role.VIEWER, created_at=WallTime(1)))


class Answering(MemoryStore):
    """Gives one answer to every batch."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__()
        self.verdict = verdict

    async def commit(self, batch: Batch) -> Verdict:
        return self.verdict


class Silent(MemoryStore):
    """Loses the verdict, before or after the batch is written."""

    def __init__(self, *, written: bool) -> None:
        super().__init__()
        self.written = written

    async def commit(self, batch: Batch) -> Verdict:
        if self.written:
            await super().commit(batch)
        raise CommitUnknown(batch.id)


async def test_what_fits_is_written_and_what_does_not_is_told() -> None:
    store, ids = MemoryStore(), CountingIds()

    assert await write(store, ids, ADA)
    assert not await write(store, ids, ADA)


async def test_a_full_store_is_an_error_that_says_so() -> None:
    with pytest.raises(StorageFull):
        await write(Answering(Full()), CountingIds(), ADA)


async def test_a_lost_term_means_come_back() -> None:
    with pytest.raises(Unavailable):
        await write(Answering(TermLost()), CountingIds(), ADA)


@pytest.mark.parametrize("written", [True, False])
async def test_a_lost_verdict_is_asked_for(written: bool) -> None:
    assert await write(Silent(written=written), CountingIds(), ADA) is written
