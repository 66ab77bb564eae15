"""What `verify` says of rows that are as they should be."""

from collections.abc import Iterable

from agentcom.model.batch import Row, Table
from agentcom.model.hold import Hold
from agentcom.model.ids import (
    DEFAULT_PROJECT,
    AgentId,
    MachineId,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.task import Phase, Task, TaskBody, TaskSpec, TaskState
from agentcom.store.invariants import problems


def _landing(name: str) -> Task:
    return Task(
        id=TaskId(name),
        project=DEFAULT_PROJECT,
        submitter=UserId("eve"),
        title="Land",
        state=TaskState.RUNNING,
        changed_at=WallTime(0),
        phase=Phase.LANDING,
        agent=AgentId("ada"),
        machine=MachineId("m1"),
        attempt=1,
        incarnation=1,
    )


def _body(name: str) -> TaskBody:
    return TaskBody(
        id=TaskId(name),
        submitter=UserId("eve"),
        created_at=WallTime(0),
        cause="c",
        spec=TaskSpec(title="Land", prompt="x"),
    )


def test_a_task_that_waits_for_its_turn_to_land_holds_nothing_and_is_sound() -> None:
    first = Hold(task=TaskId("t1"), attempt=1, key="land:/r#main")
    kept: dict[Table, dict[str, Row]] = {
        Table.TASK: {"t1": _landing("t1"), "t2": _landing("t2")},
        Table.BODY: {"t1": _body("t1"), "t2": _body("t2")},
        Table.HOLD: {"t1/land:/r#main": first},
    }

    def rows(table: Table) -> Iterable[tuple[str, Row]]:
        return kept.get(table, {}).items()

    assert problems(rows) == []
