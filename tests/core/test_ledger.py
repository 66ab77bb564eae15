"""The books of one turn."""

from agentcom.core.effects import Continue
from agentcom.core.facts import Fact, LeaseChecked, TodoDue
from agentcom.core.ledger import Ledger
from agentcom.model.batch import Delete, Insert, Table, Update
from agentcom.model.hold import Hold
from agentcom.model.ids import AgentId, MachineId, TaskId
from agentcom.model.todo import Todo, TodoKind
from tests.core.acts import Pool


def a_ledger() -> Ledger:
    world = Pool()
    return Ledger(world.view, now=world.now, ids=world.ids, rng=world.rng)


def hold(version: int = 1, amount: int = 1) -> Hold:
    return Hold(task=TaskId("t"), attempt=1, key="slot:a", amount=amount, version=version)


def test_several_changes_of_one_row_come_to_one_write() -> None:
    ledger = a_ledger()

    ledger.write(Table.HOLD, "h", hold(2), old=1)
    ledger.write(Table.HOLD, "h", hold(3), old=2)

    assert ledger.batch().changes == (Update(Table.HOLD, "h", hold(3), 1),)


def test_a_row_that_came_and_went_in_one_turn_is_never_written() -> None:
    ledger = a_ledger()

    ledger.insert(Table.HOLD, "h", hold())
    ledger.write(Table.HOLD, "h", None, old=1)

    assert ledger.batch().empty


def test_a_row_that_goes_is_deleted_by_its_stored_version() -> None:
    ledger = a_ledger()

    ledger.write(Table.HOLD, "h", hold(5), old=4)
    ledger.write(Table.HOLD, "h", None, old=5)

    assert ledger.batch().changes == (Delete(Table.HOLD, "h", 4),)


def test_a_row_that_is_taken_again_in_one_turn_goes_on_from_its_stored_version() -> None:
    ledger = a_ledger()

    ledger.write(Table.HOLD, "h", None, old=7)
    row = ledger.insert(Table.HOLD, "h", hold(amount=2))

    assert ledger.batch().changes == (Update(Table.HOLD, "h", hold(8, 2), 7),)
    assert row.version == 8


def test_a_new_row_that_was_dropped_and_taken_again_is_an_insert() -> None:
    ledger = a_ledger()

    ledger.insert(Table.HOLD, "h", hold())
    ledger.write(Table.HOLD, "h", None, old=1)
    ledger.insert(Table.HOLD, "h", hold())

    assert ledger.batch().changes == (Insert(Table.HOLD, "h", hold()),)


def test_what_a_refused_fact_wrote_is_taken_back() -> None:
    ledger = a_ledger()
    ledger.write(Table.HOLD, "kept", hold(), old=None)
    mark = ledger.begin(Fact(body=LeaseChecked(MachineId("m"))))
    ledger.write(Table.HOLD, "kept", hold(2), old=1)
    ledger.write(Table.HOLD, "new", hold(), old=None)
    ledger.again(TodoDue(TaskId("t"), TodoKind.RELEASE_DEPENDANTS))
    ledger.ready(AgentId("a"))

    ledger.abandon(mark)

    assert ledger.batch().changes == (Insert(Table.HOLD, "kept", hold()),)
    assert (ledger.effects, ledger.looks) == ([], {})


def test_a_part_of_a_fact_is_taken_back_and_the_rest_stays() -> None:
    ledger = a_ledger()
    ledger.begin(Fact(body=LeaseChecked(MachineId("m"))))
    ledger.write(Table.HOLD, "kept", hold(), old=None)
    ledger.write(Table.HOLD, "twice", hold(), old=None)
    ledger.write(Table.HOLD, "twice", hold(2), old=1)
    mark = ledger.mark()
    ledger.write(Table.HOLD, "kept", hold(2), old=1)
    ledger.write(Table.HOLD, "new", hold(), old=None)
    ledger.again(TodoDue(TaskId("t"), TodoKind.BULK))

    ledger.take_back(mark)

    assert ledger.batch().changes == (
        Insert(Table.HOLD, "kept", hold()),
        Insert(Table.HOLD, "twice", hold(2)),
    )
    assert ledger.effects == []


def test_a_fact_for_the_next_turn_is_an_effect() -> None:
    ledger = a_ledger()
    body = TodoDue(TaskId("t"), TodoKind.RELEASE_DEPENDANTS)

    ledger.again(body)

    assert ledger.effects == [Continue(body)]


def test_a_row_is_read_as_this_turn_leaves_it() -> None:
    ledger = a_ledger()
    todo = Todo(kind=TodoKind.RELEASE_DEPENDANTS, task=TaskId("t"))
    found = {(Table.TODO, "t"): todo}

    assert ledger.row(Table.TODO, "t", found) == todo
    ledger.write(Table.TODO, "t", None, old=1)
    assert ledger.row(Table.TODO, "t", found) is None
    assert ledger.row(Table.TODO, "other", found) is None
