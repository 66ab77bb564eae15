"""Who is the author of a result, and what a task waits for when nothing is in its way."""

import msgspec
import pytest

from agentcom.core import moves
from agentcom.model.graph import Approval
from agentcom.model.ids import AgentId, MachineId
from agentcom.model.task import Task, TaskState, Wait
from agentcom.testing.store_rows import task

HELD = task("t", TaskState.RUNNING)


@pytest.mark.parametrize(
    ("fields", "author"),
    [
        ({"landing_only": True}, ("bob", "m")),
        ({"landing_only": True, "author": "ada", "author_machine": "m2"}, ("ada", "m2")),
        ({"author": "ada", "author_machine": "m2"}, (None, None)),
    ],
)
def test_an_author_stays_the_author_until_someone_works_anew(
    fields: dict[str, object], author: tuple[AgentId | None, MachineId | None]
) -> None:
    after: Task = moves.authored(msgspec.structs.replace(HELD, **fields))

    assert (after.author, after.author_machine) == author


def test_only_what_a_person_decides_waits_for_a_word() -> None:
    assert moves.approval(HELD) is None
    gate = msgspec.structs.replace(HELD, approval=Approval.PERSON)
    assert moves.approval(gate) is Wait.APPROVAL
