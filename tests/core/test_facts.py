"""What a fact brings along."""

from agentcom.core import facts
from agentcom.model.batch import Table, result_key
from agentcom.model.ids import Fence, MachineId, TaskId, WallTime
from agentcom.model.result import KeptResult
from tests.core.acts import done

KEY = result_key("t", Fence(7, 1), "m1")
KEPT = KeptResult(
    task=TaskId("t"),
    fence=Fence(7, 1),
    agent=None,
    machine=MachineId("m1"),
    at=WallTime(1),
    result=done(),
    applied=False,
)


def test_a_result_that_was_fetched_is_at_hand() -> None:
    assert facts.kept({(Table.RESULT, KEY): KEPT}, KEY) == KEPT


def test_a_result_that_is_not_stored_or_was_not_asked_for_is_not() -> None:
    assert facts.kept({(Table.RESULT, KEY): None}, KEY) is None
    assert facts.kept(facts.NOTHING_FOUND, KEY) is None
