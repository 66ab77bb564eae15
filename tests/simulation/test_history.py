"""What is a possible history of one task, and what is none."""

import pytest

from agentcom.model.ids import Fence
from agentcom.testing.simulation.history import EVER, Operation, is_linearizable


def assigned(attempt: int, at: int) -> Operation:
    return Operation(Fence(7, attempt), 0, at, None)


def reported(attempt: int, began: int, ended: int, *, applied: bool) -> Operation:
    return Operation(Fence(7, attempt), began, ended, applied)


@pytest.mark.parametrize(
    "operations",
    [
        [],
        [assigned(1, 5), reported(1, 6, 9, applied=True)],
        [assigned(1, 5), assigned(2, 9), reported(1, 6, 12, applied=False)],
        [assigned(1, 5), assigned(2, 9), reported(2, 10, 12, applied=True)],
        [assigned(2, 3), assigned(1, 5), reported(2, 6, 8, applied=True)],
        [assigned(1, 5), reported(1, 6, EVER, applied=True)],
    ],
)
def test_histories_that_have_an_order(operations: list[Operation]) -> None:
    assert is_linearizable(operations)


@pytest.mark.parametrize(
    "operations",
    [
        [reported(1, 6, 9, applied=True)],
        [assigned(1, 5), reported(1, 6, 9, applied=True), reported(1, 10, 12, applied=True)],
        [assigned(1, 5), assigned(2, 9), reported(2, 10, 12, applied=True),
         reported(1, 13, 15, applied=True)],
    ],
)  # fmt: skip
def test_histories_that_have_none(operations: list[Operation]) -> None:
    assert not is_linearizable(operations)
