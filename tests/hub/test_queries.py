"""What people read: only of their project, page by page, found by a part of the id."""

import msgspec
import pytest

from agentcom.core.view import PoolView
from agentcom.hub.activities import Activities
from agentcom.hub.cursors import Cursors
from agentcom.hub.queries import Ambiguous, Queries, TaskFilter, reporter
from agentcom.hub.queries_fleet import Fleet
from agentcom.hub.queries_people import People
from agentcom.model.agent import Agent, AgentState, Machine
from agentcom.model.batch import Append, Batch, Change, Insert, Table, result_key
from agentcom.model.errors import InvalidInput, NotAllowed, NotFound
from agentcom.model.event import EventKind, TaskEvent, task_log
from agentcom.model.identity import Credential, CredentialKind, Identity, Role, User
from agentcom.model.ids import (
    DEFAULT_POOL,
    AgentId,
    BatchId,
    Fence,
    MachineId,
    ProjectId,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.result import KeptResult, Result, ResultStatus
from agentcom.model.task import Task, TaskBody, TaskSpec, TaskState
from agentcom.protocol.frames import Progress
from agentcom.store.base import Committed
from agentcom.store.memory import MemoryStore

ANN = Identity(role=Role.ADMIN, user=UserId("ann"), credential="c1")
BEN = Identity(role=Role.VIEWER, user=UserId("ben"), credential="c2")
EVE = Identity(role=Role.ADMIN, user=UserId("eve"), credential="c3", project=ProjectId("elsewhere"))
BOX = MachineId("box1")


def a_task(name: str, *, owner: Identity = ANN, title: str = "t", **more: object) -> Task:
    fields = {"state": TaskState.QUEUED, **more}
    return Task(
        id=TaskId(name),
        project=owner.project,
        submitter=owner.user,
        title=title,
        changed_at=WallTime(1),
        **fields,  # type: ignore[arg-type]
    )


async def stored(
    *rows: Task, changes: tuple[Change, ...] = (), appends: tuple[Append, ...] = ()
) -> MemoryStore:
    store = MemoryStore()
    await store.open()
    inserts = tuple(Insert(Table.TASK, row.id, row) for row in rows)
    batch = Batch(id=BatchId("b"), pool=DEFAULT_POOL, changes=inserts + changes, appends=appends)
    assert isinstance(await store.commit(batch), Committed)
    return store


def queries(store: MemoryStore) -> Queries:
    return Queries(store, Activities(), Cursors(b"k"))


async def test_only_tasks_of_ones_project_are_there() -> None:
    reads = queries(await stored(a_task("a1"), a_task("e1", owner=EVE)))

    page = await reads.tasks(ANN, TaskFilter())
    assert [task.id for task in page.tasks] == ["a1"]
    with pytest.raises(NotFound):
        await reads.find(ANN, "e1")
    with pytest.raises(NotAllowed):
        await reads.tasks(ANN, TaskFilter(project="elsewhere"))


async def test_filters_go_together_and_me_is_the_caller() -> None:
    rows = [a_task("a1"), a_task("a2", state=TaskState.FAILED), a_task("b1", owner=BEN)]
    reads = queries(await stored(*rows))

    mine = await reads.tasks(ANN, TaskFilter(submitter="@me", state=(TaskState.FAILED,)))
    bens = await reads.tasks(ANN, TaskFilter(submitter="ben"))
    assert [task.id for task in mine.tasks] == ["a2"]
    assert [task.id for task in bens.tasks] == ["b1"]


async def test_pages_join_without_gap_or_repetition() -> None:
    reads = queries(await stored(*(a_task(f"a{n}") for n in range(5))))
    seen: list[str] = []
    cursor = None

    while True:
        page = await reads.tasks(ANN, TaskFilter(limit=2, cursor=cursor))
        seen += [task.id for task in page.tasks]
        cursor = page.next
        if cursor is None:
            break

    assert seen == ["a4", "a3", "a2", "a1", "a0"]


async def test_a_search_goes_on_with_its_cursor() -> None:
    rows = [a_task(f"a{n}", title="Fix it" if n % 2 else "other") for n in range(6)]
    reads = queries(await stored(*rows))

    first = await reads.tasks(ANN, TaskFilter(q="fix", limit=2))
    rest = await reads.tasks(ANN, TaskFilter(q="fix", limit=2, cursor=first.next))
    assert [task.id for task in (*first.tasks, *rest.tasks)] == ["a5", "a3", "a1"]


@pytest.mark.parametrize("reader", [BEN, EVE])
async def test_a_cursor_is_bound_to_its_caller(reader: Identity) -> None:
    reads = queries(await stored(a_task("a1"), a_task("a2")))
    page = await reads.tasks(ANN, TaskFilter(limit=1))

    with pytest.raises(InvalidInput):
        await reads.tasks(reader, TaskFilter(limit=1, cursor=page.next))


async def test_a_cursor_is_bound_to_its_filters() -> None:
    reads = queries(await stored(a_task("a1"), a_task("a2")))
    page = await reads.tasks(ANN, TaskFilter(limit=1))

    with pytest.raises(InvalidInput):
        await reads.tasks(ANN, TaskFilter(submitter="ben", cursor=page.next))


async def test_an_id_may_be_a_part_if_it_is_the_only_one() -> None:
    reads = queries(await stored(a_task("0aaxyz"), a_task("0abxyw"), a_task("0ccxyz", owner=EVE)))

    assert (await reads.find(ANN, "AAX")).id == "0aaxyz"
    assert (await reads.find(ANN, "xyz")).id == "0aaxyz"
    with pytest.raises(Ambiguous, match="0aaxyz"):
        await reads.find(ANN, "xy")


async def test_last_is_the_callers_newest_task() -> None:
    reads = queries(await stored(a_task("a1"), a_task("b2", owner=BEN)))

    assert (await reads.find(ANN, "@last")).id == "a1"
    with pytest.raises(NotFound):
        await reads.find(EVE, "@last")


@pytest.mark.parametrize("text", ["", "%", "a_1", "../a", "@me", "a" * 65])
async def test_what_cannot_be_an_id_is_not_found(text: str) -> None:
    reads = queries(await stored(a_task("a1")))

    with pytest.raises(NotFound):
        await reads.find(ANN, text)


async def test_a_task_is_shown_with_its_specification_and_newest_result() -> None:
    body = TaskBody(
        id=TaskId("a1"),
        submitter=ANN.user,
        created_at=WallTime(1),
        cause="c",
        spec=TaskSpec(title="t", prompt="p"),
    )
    results = [kept("a1", attempt) for attempt in (1, 2)]
    changes = (Insert(Table.BODY, "a1", body), *(inserted(row) for row in results))
    reads = queries(await stored(a_task("a1"), changes=changes))

    shown = await reads.task(ANN, "a1")
    assert shown.body == body
    assert shown.result == results[1]
    assert await reads.kept(TaskId("a1"), 1) == {BOX: Fence(1, 1)}
    with pytest.raises(NotFound):
        await reads.kept(TaskId("a1"), 3)


def test_a_result_that_several_machines_reported_is_adopted_by_machine() -> None:
    named = {MachineId("m1"): "attic", MachineId("m2"): "cellar"}

    with pytest.raises(Ambiguous, match="attic, cellar"):
        reporter(named, 1, None)
    assert reporter(named, 1, "cellar") == "m2"
    assert reporter(named, 1, "m1") == "m1"
    assert reporter({MachineId("m1"): "attic"}, 1, None) == "m1"
    with pytest.raises(NotFound):
        reporter(named, 1, "roof")


def test_machines_with_one_name_are_told_apart_by_their_ids() -> None:
    with pytest.raises(Ambiguous, match="m1, m2"):
        reporter({MachineId("m1"): "attic", MachineId("m2"): "attic"}, 1, "attic")


async def test_a_log_is_told_with_the_attempt_that_wrote_it() -> None:
    activities = Activities()
    report = Progress(task=TaskId("a1"), fence=Fence(1, 1), log="of attempt 1")
    activities.note(ANN, None, report)
    reads = Queries(await stored(a_task("a1", attempt=2)), activities, Cursors())

    tail = await reads.logs(ANN, "a1")

    assert (tail.attempt, tail.text) == (1, "of attempt 1")


async def test_results_are_of_that_task_alone_and_the_newest_first() -> None:
    rows = [kept("a1", 1), kept("a1", 2), kept("a11", 1), kept("a0", 1)]
    changes = tuple(inserted(row) for row in rows)
    reads = queries(await stored(a_task("a0"), a_task("a1"), a_task("a11"), changes=changes))

    found = await reads.results(ANN, "a1")

    assert list(found.results) == [rows[1], rows[0]]


async def test_results_of_a_task_that_was_lost_are_shown_to_who_may_adopt() -> None:
    row = kept("gone", 1)
    reads = queries(await stored(a_task("a1"), changes=(inserted(row),)))

    found = await reads.results(msgspec.structs.replace(ANN, role=Role.OPERATOR), "gone")

    assert list(found.results) == [row]
    with pytest.raises(NotFound):
        await reads.results(msgspec.structs.replace(ANN, role=Role.SUBMITTER), "gone")


async def test_results_of_another_project_s_task_stay_unknown() -> None:
    row = kept("a1", 1)
    reads = queries(await stored(a_task("a1", owner=EVE), changes=(inserted(row),)))

    with pytest.raises(NotFound):
        await reads.results(msgspec.structs.replace(ANN, role=Role.ADMIN), "a1")


def kept(task: str, attempt: int) -> KeptResult:
    return KeptResult(
        task=TaskId(task),
        fence=Fence(1, attempt),
        agent=None,
        machine=BOX,
        at=WallTime(1),
        result=Result(status=ResultStatus.DONE),
        applied=False,
    )


def inserted(row: KeptResult) -> Insert:
    return Insert(Table.RESULT, result_key(row.task, row.fence, row.machine), row)


async def test_events_come_in_pages_by_sequence() -> None:
    event = TaskEvent(
        kind=EventKind.PHASE, task=TaskId("a1"), state=TaskState.RUNNING, at=WallTime(1)
    )
    appends = tuple(Append(task_log(TaskId("a1")), event) for _ in range(3))
    reads = queries(await stored(a_task("a1"), appends=appends))

    first = await reads.events(ANN, "a1", after=0, limit=2)
    rest = await reads.events(ANN, "a1", after=first.after, limit=2)
    assert ([row.seq for row in first.events], first.more) == ([1, 2], True)
    assert ([row.seq for row in rest.events], rest.more) == ([3], False)


def a_fleet() -> Fleet:
    view = PoolView(DEFAULT_POOL, incarnation=1, term=1)
    for number in (1, 2):
        machine = MachineId(f"box{number}")
        view.machines[machine] = Machine(
            id=machine, name=f"mac-{number}", owner=ANN.user, created_at=WallTime(1)
        )
        view.learn_agent(Agent(id=AgentId(f"ada-{number}"), machine=machine, runtime="command"))
    elsewhere = Agent(
        id=AgentId("zed"), machine=BOX, runtime="command", project=ProjectId("elsewhere")
    )
    view.learn_agent(elsewhere)
    view.confirm()
    return Fleet(lambda: view, Cursors(b"k"), lambda: 5_000)


def test_agents_of_another_project_are_not_there() -> None:
    fleet = a_fleet()

    listed = fleet.agents(ANN, cursor=None, limit=100)
    assert [agent.id for agent in listed.agents] == ["ada-1", "ada-2"]
    assert {agent.state for agent in listed.agents} == {AgentState.OFFLINE}
    with pytest.raises(NotFound):
        fleet.agent(ANN, "zed")


def test_agents_and_machines_are_found_by_a_part_of_their_name() -> None:
    fleet = a_fleet()

    assert fleet.machine(ANN, "mac-2").id == "box2"
    assert fleet.machine(ANN, "box1").name == "mac-1"
    for name in ("mac-1", "box1"):
        with pytest.raises(NotFound):
            fleet.machine(EVE, name)
    with pytest.raises(Ambiguous):
        fleet.find_agent(ANN, "ada")


def test_a_listing_of_agents_has_pages() -> None:
    fleet = a_fleet()

    first = fleet.agents(ANN, cursor=None, limit=1)
    second = fleet.agents(ANN, cursor=first.next, limit=1)
    assert [row.id for row in (*first.agents, *second.agents)] == ["ada-1", "ada-2"]
    assert second.next is None


def test_counts_name_every_live_state() -> None:
    assert a_fleet().task_counts() == {"waiting": 0, "queued": 0, "assigned": 0, "running": 0}


async def test_tokens_are_shown_without_their_digest() -> None:
    credential = Credential(
        id="c1",
        kind=CredentialKind.USER,
        digest="d" * 64,
        role=Role.ADMIN,
        owner=ANN.user,
        created_at=WallTime(1),
    )
    user = User(id=ANN.user, role=Role.ADMIN, created_at=WallTime(1))
    changes = (Insert(Table.CREDENTIAL, "c1", credential), Insert(Table.USER, "ann", user))
    people = People(await stored(changes=changes), Cursors(b"k"))

    listed = await people.tokens(ANN, owner=None, cursor=None, limit=10)
    foreign = await people.tokens(EVE, owner=None, cursor=None, limit=10)
    assert [token.id for token in listed.tokens] == ["c1"]
    assert not hasattr(listed.tokens[0], "digest")
    assert foreign.tokens == ()
    assert await people.admin_count() == 1
