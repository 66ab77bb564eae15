import msgspec
import pytest

from agentcom.model.batch import Batch, Delete, Table, Update
from agentcom.store import codec
from agentcom.store.memory import MemoryStore
from agentcom.testing import store_rows
from agentcom.testing.store_suite import Make, StoreSuite


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def make(self) -> Make:
        return MemoryStore


def test_a_batch_comes_back_from_its_canonical_bytes() -> None:
    changes = (
        *store_rows.new_task("t1"),
        Update(Table.TASK, "t1", store_rows.task("t1", version=2), expected=1),
        Delete(Table.TASK, "t1", expected=2),
    )
    batch = store_rows.batch("b1", *changes, appends=["t1"], term=3)
    batch = msgspec.structs.replace(batch, forgets=((1, 2),))

    data = codec.encode_batch(batch)

    assert codec.decode_batch(data) == batch
    assert codec.encode_batch(codec.decode_batch(data)) == data


def test_an_incomplete_batch_is_refused() -> None:
    data = codec.encode_batch(store_rows.batch("b1", *store_rows.new_task("t1")))

    with pytest.raises(msgspec.DecodeError):
        codec.decode_batch(data.replace(b'"insert"', b'"update"'))

    assert isinstance(codec.decode_batch(data), Batch)
