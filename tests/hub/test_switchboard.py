"""Effects reach connections, timers and the next turn; what cannot be delivered is dropped."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from agentcom.core import due_facts, effects
from agentcom.core.facts import Body, Fact
from agentcom.hub.switchboard import DRAIN_BASE_MS, DRAIN_SPREAD_MS, PUSH_BYTES, Switchboard
from agentcom.model.agent import Assignment
from agentcom.model.batch import Append
from agentcom.model.errors import NotFound
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import AgentId, Fence, Instant, MachineId, TaskId, UserId, WallTime
from agentcom.model.replies import Done
from agentcom.model.result import ReportKind
from agentcom.model.task import StopReason, TaskBody, TaskSpec
from agentcom.protocol import codec, frames

TASK = TaskId("t1")
FENCE = Fence(1, 1)
LAPTOP = MachineId("laptop")
ADA = UserId("ada")
BODY = TaskBody(
    id=TASK, submitter=ADA, created_at=WallTime(0), cause="c", spec=TaskSpec(title="t", prompt="p")
)
ASSIGNMENT = Assignment(task=TASK, fence=FENCE, agent=AgentId("bob"), deadline_at=WallTime(9))


def identity(machine: MachineId | None = LAPTOP, credential: str = "k1") -> Identity:
    return Identity(role=Role.AGENT, user=ADA, credential=credential, machine=machine)


@dataclass
class Line:
    identity: Identity = field(default_factory=identity)
    sent: list[bytes] = field(default_factory=list)
    closed: list[tuple[int, str]] = field(default_factory=list)
    buffered_bytes: int = 0

    def send(self, payload: bytes) -> None:
        self.sent.append(payload)

    def close(self, code: int, reason: str) -> None:
        self.closed.append((code, reason))

    @property
    def frames(self) -> list[frames.FromHub]:
        return [codec.decode_from_hub(payload) for payload in self.sent]


@dataclass
class Board:
    """Timers, feeds and inbox in one."""

    timers: dict[str, tuple[Instant, Body]] = field(default_factory=dict)
    published: list[tuple[int, Sequence[Append]]] = field(default_factory=list)
    inbox: list[Fact] = field(default_factory=list)

    def set(self, key: str, at: Instant, body: Body) -> None:
        self.timers[key] = (at, body)

    def clear(self, key: str) -> None:
        self.timers.pop(key, None)

    def publish(self, first: int, appends: Sequence[Append]) -> None:
        self.published.append((first, appends))

    def put(self, fact: Fact) -> None:
        self.inbox.append(fact)


class Half:
    def random(self) -> float:
        return 0.5


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def switchboard(board: Board) -> Switchboard:
    switchboard = Switchboard(board, board)
    switchboard.attach(board)
    return switchboard


def connected(switchboard: Switchboard, line: Line) -> int:
    number = switchboard.register(line)
    if line.identity.machine is not None:
        switchboard.bind(line.identity.machine, number)
    return number


def test_an_assignment_goes_to_its_machine_with_its_body(switchboard: Switchboard) -> None:
    line = Line()
    connected(switchboard, line)

    switchboard.perform([effects.Push(LAPTOP, ASSIGNMENT, BODY)])

    assert line.frames == [frames.Assign(assignment=ASSIGNMENT, body=BODY)]


def test_an_assignment_without_a_body_is_not_sent(switchboard: Switchboard) -> None:
    line = Line()
    connected(switchboard, line)

    switchboard.perform([effects.Push(LAPTOP, ASSIGNMENT)])

    assert line.sent == []


def test_a_machine_with_much_on_its_way_gets_its_next_assignment_later(
    switchboard: Switchboard,
) -> None:
    line = Line(buffered_bytes=PUSH_BYTES + 1)
    connected(switchboard, line)

    switchboard.perform([effects.Push(LAPTOP, ASSIGNMENT, BODY)])
    switchboard.perform([effects.Stop(LAPTOP, TASK, FENCE, None)])

    assert [type(frame) for frame in line.frames] == [frames.StopFrame]  # orders are never late


@pytest.mark.parametrize(
    ("effect", "frame"),
    [
        (
            effects.Stop(LAPTOP, TASK, FENCE, StopReason.CANCELLED),
            frames.StopFrame(task=TASK, fence=FENCE, reason=StopReason.CANCELLED),
        ),
        (
            effects.Notify(LAPTOP, TASK, FENCE, "also touches a"),
            frames.Notice(task=TASK, fence=FENCE, text="also touches a"),
        ),
        (effects.GrantLanding(LAPTOP, TASK, FENCE), frames.LandFrame(task=TASK, fence=FENCE)),
        (
            effects.Acknowledge(LAPTOP, TASK, FENCE, ReportKind.FINISH, False, "stale"),
            frames.Ack(task=TASK, fence=FENCE, of=ReportKind.FINISH, applied=False, code="stale"),
        ),
        (
            effects.Acknowledge(LAPTOP, TASK, FENCE, ReportKind.CHECKPOINT, commit="c" * 40),
            frames.Ack(task=TASK, fence=FENCE, of=ReportKind.CHECKPOINT, commit="c" * 40),
        ),
    ],
)
def test_every_order_for_a_machine_is_a_frame(
    switchboard: Switchboard, effect: effects.Effect, frame: frames.FromHub
) -> None:
    line = Line()
    connected(switchboard, line)

    switchboard.perform([effect])

    assert line.frames == [frame]


def test_what_is_for_a_machine_that_is_away_is_dropped(switchboard: Switchboard) -> None:
    line = Line()
    switchboard.unregister(connected(switchboard, line))

    switchboard.perform([effects.Push(LAPTOP, ASSIGNMENT, BODY)])

    assert line.sent == []
    assert not list(switchboard.machines)


def test_the_newest_connection_of_a_machine_gets_its_orders(switchboard: Switchboard) -> None:
    old, new = Line(), Line()
    number = connected(switchboard, old)
    connected(switchboard, new)
    switchboard.unregister(number)

    switchboard.perform([effects.GrantLanding(LAPTOP, TASK, FENCE)])

    assert (len(old.sent), len(new.sent)) == (0, 1)


def test_timers_are_set_and_cleared(switchboard: Switchboard, board: Board) -> None:
    body = due_facts.WaitEnded(TASK)

    switchboard.perform([effects.SetTimer("a", Instant(5), body), effects.ClearTimer("b")])
    assert board.timers == {"a": (Instant(5), body)}

    switchboard.perform([effects.ClearTimer("a")])
    assert board.timers == {}


def test_what_goes_on_is_a_fact_of_the_next_turn(switchboard: Switchboard, board: Board) -> None:
    switchboard.perform([effects.Continue(due_facts.WaitEnded(TASK))])

    assert [fact.body for fact in board.inbox] == [due_facts.WaitEnded(TASK)]


def test_a_connection_is_closed_by_its_number(switchboard: Switchboard) -> None:
    line = Line()
    number = connected(switchboard, line)

    switchboard.perform([
        effects.CloseConnection(number, 4409, "newer"),
        effects.CloseConnection(number + 1, 4409, "nobody"),
    ])  # fmt: skip

    assert line.closed == [(4409, "newer")]


def test_answers_are_none_of_its_business(switchboard: Switchboard) -> None:
    line = Line()
    connected(switchboard, line)

    switchboard.perform([effects.Answer(1, Done()), effects.Refuse(2, NotFound("no"))])

    assert line.sent == []


def test_records_go_to_the_feeds(switchboard: Switchboard, board: Board) -> None:
    switchboard.publish(7, ())

    assert board.published == [(7, ())]


def test_the_end_of_a_token_closes_all_that_came_with_it(switchboard: Switchboard) -> None:
    first, second = Line(identity(None, "k1")), Line(identity(None, "k2"))
    connected(switchboard, first)
    connected(switchboard, second)

    switchboard.revoke("k1")

    assert [code for code, _ in first.closed] == [4401]
    assert second.closed == []


def test_a_drain_tells_everyone_when_to_come_back(switchboard: Switchboard) -> None:
    line = Line()
    connected(switchboard, line)

    switchboard.drain(Half())

    assert line.frames == [frames.Drain(retry_after_ms=DRAIN_BASE_MS + DRAIN_SPREAD_MS // 2)]
    assert [code for code, _ in line.closed] == [1012]


def test_who_waits_for_a_turn_is_asked_until_it_is_content(switchboard: Switchboard) -> None:
    answers = [True, False]
    switchboard.after_turn(answers.pop)

    for _ in range(3):
        switchboard.perform([])

    assert answers == []


async def test_who_waits_hears_after_the_turn_that_it_waits_for() -> None:
    board = Board()
    switchboard = Switchboard(board, board)
    true: list[bool] = []
    waiting = asyncio.create_task(switchboard.until(lambda: bool(true), 60_000))
    await asyncio.sleep(0)

    switchboard.perform([])
    await asyncio.sleep(0)
    assert not waiting.done()
    true.append(True)
    switchboard.perform([])
    await waiting


async def test_nobody_looks_for_who_has_hung_up_or_waited_long_enough() -> None:
    board = Board()
    switchboard = Switchboard(board, board)
    looks: list[None] = []

    def holds() -> bool:
        looks.append(None)
        return False

    waiting = asyncio.create_task(switchboard.until(holds, 60_000))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await switchboard.until(holds, 1)
    switchboard.perform([])
    assert len(looks) == 2, "each looked once, when it began"
