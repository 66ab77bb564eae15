import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from agentcom.hub.mail_delivery import MailDelivery
from agentcom.hub.mailboxes import Part
from agentcom.hub.switchboard import PUSH_BYTES, Switchboard
from agentcom.model import limits
from agentcom.model.address import Address
from agentcom.model.agent import Assignment
from agentcom.model.errors import NotAllowed, NotFound, StorageFull, TooLarge
from agentcom.model.ids import DEFAULT_PROJECT, AgentId, Fence, MachineId, TaskId, WallTime
from agentcom.model.message import Delivery, mail_log
from agentcom.model.task import TaskState
from agentcom.protocol.frames import MailFrame, MailTaken
from agentcom.testing.waiting import PATIENCE_S
from tests.hub.mail_house import ADA, ANN, BOX, House, agent, furnish, person
from tests.hub.test_switchboard import Board, Line, identity

ADA_ID = AgentId("ada")


@dataclass
class Road:
    """A house, and the way from it to one machine."""

    house: House
    delivery: MailDelivery
    switchboard: Switchboard
    line: Line = field(default_factory=lambda: Line(identity(BOX)))

    def connect(self) -> None:
        self.line = Line(identity(BOX))
        self.switchboard.bind(BOX, self.switchboard.register(self.line))
        self.delivery.connected(BOX)

    async def brought(self) -> list[str]:
        """Return what comes to the machine now."""
        before = len(self.line.sent)
        await self.delivery.work()
        found = [frame for frame in self.line.frames[before:] if isinstance(frame, MailFrame)]
        assert all(frame.agent == "ada" for frame in found)
        return [letter.message.body for frame in found for letter in frame.letters]

    async def took(self, *seqs: int, seen: bool = False) -> None:
        self.delivery.took(BOX, MailTaken(agent=ADA_ID, seqs=seqs, seen=seen))

    async def states(self) -> str:
        return " ".join(entry.state for entry in await self.house.entries(ADA))


@pytest.fixture
async def road(tmp_path: Path) -> Road:
    house = await furnish(tmp_path)
    board = Board()
    switchboard = Switchboard(board, board)
    delivery = MailDelivery(house.boxes, switchboard, lambda: house.view)
    house.boxes.on_arrival, house.boxes.on_read = delivery.arrived, delivery.read
    house.view.agents_of[BOX] = {ADA_ID: None, AgentId("bob"): None}
    made = Road(house, delivery, switchboard)
    made.connect()
    house.assign("ada", "t")
    return made


async def test_a_letter_goes_to_the_machine_of_the_attempt(road: Road) -> None:
    await road.house.send(ANN, "ada,bob,cat", "one")

    assert await road.brought() == ["one"]  # bob has no attempt
    assert await road.brought() == []
    assert await road.states() == "queued"
    await road.took(1)
    await road.delivery.work()
    assert await road.states() == "delivered"
    await road.took(1, seen=True)
    await road.delivery.work()
    assert await road.states() == "seen"


async def test_what_was_not_seen_comes_again_with_each_session_and_attempt(road: Road) -> None:
    for text in "abc":
        await road.house.send(ANN, "ada", text)
    await road.brought()
    await road.took(1)
    await road.took(2, seen=True)
    await road.brought()

    road.connect()
    assert await road.brought() == ["a", "c"]
    road.delivery.began(ADA_ID)
    assert await road.brought() == ["a", "c"]


async def test_a_machine_hears_what_its_agent_read_by_itself(road: Road) -> None:
    await road.house.send(ANN, "ada", "one")
    await road.brought()
    before = len(road.line.sent)

    letters = (await road.house.inbox(ADA)).letters
    await road.house.inbox(ADA)

    assert road.line.frames[before:] == [
        MailFrame(agent=ADA_ID, read=tuple(one.message.id for one in letters))
    ]


async def test_letters_wait_for_an_attempt(road: Road) -> None:
    road.house.view.tasks.clear()
    road.house.view.held_by.clear()
    await road.house.send(ANN, "ada", "later")
    assert await road.brought() == []

    road.house.assign("ada", "t")
    road.delivery.began(ADA_ID)
    assert await road.brought() == ["later"]


async def test_letters_wait_for_a_connection(road: Road) -> None:
    road.switchboard.unregister(1)
    await road.house.send(ANN, "ada", "later")
    assert await road.brought() == []

    road.connect()
    assert await road.brought() == ["later"]


async def test_mail_of_one_project_is_not_shown_to_another(road: Road) -> None:
    await road.house.send(ANN, "ada", "ours")
    eve = person("eve", "other")
    road.house.assign("ada", "t", "other")
    await road.house.send(eve, "ada", "theirs")
    assert await road.brought() == ["theirs"]

    road.house.assign("ada", "u")
    road.delivery.began(ADA_ID)
    assert await road.brought() == []  # it works for both


async def test_no_more_goes_than_the_machine_confirms(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentcom.hub.mail_delivery.LETTERS_AHEAD", 3)
    for number in range(8):
        await road.house.send(ANN, "ada", str(number))

    assert await road.brought() == ["0", "1", "2"]
    await road.house.send(ANN, "ada", "8")
    assert await road.brought() == []
    await road.took(1, 2, 3, seen=True)
    assert await road.brought() == ["3", "4", "5"]
    await road.took(4)
    assert await road.brought() == ["6"]
    await road.took(5, 6, 7)
    assert await road.brought() == ["7", "8"]


async def test_a_slow_connection_gets_letters_later(road: Road) -> None:
    road.line.buffered_bytes = PUSH_BYTES + 1
    await road.house.send(ANN, "ada", "slow")
    assert await road.brought() == []

    road.line.buffered_bytes = 0
    assert await road.brought() == ["slow"]


async def test_what_its_agent_read_by_itself_does_not_come(road: Road) -> None:
    await road.house.send(ANN, "ada", "one")
    await road.house.inbox(ADA)

    assert await road.brought() == []


async def test_letters_are_split_into_frames(road: Road) -> None:
    for _ in range(5):
        await road.house.send(ANN, "ada", "x" * limits.MESSAGE_BYTES)

    await road.delivery.work()
    assert [len(payload) < limits.FRAME_BYTES for payload in road.line.sent] == [True] * 3


async def test_a_machine_confirms_for_its_own_agents_only(road: Road) -> None:
    await road.house.send(ANN, "ada")

    with pytest.raises(NotAllowed):
        road.delivery.took(MachineId("other"), MailTaken(agent=ADA_ID, seqs=(1,), seen=True))
    with pytest.raises(NotAllowed):
        road.delivery.took(BOX, MailTaken(agent=AgentId("nobody"), seqs=(1,)))
    with pytest.raises(TooLarge):
        await road.took(*range(limits.LETTERS_TAKEN + 1))
    await road.took(7, 0, -1, 1 << 60)
    await road.brought()
    assert await road.states() == "queued"


async def test_confirmations_are_bounded(road: Road) -> None:
    for start in range(0, 10_000, limits.LETTERS_TAKEN):
        await road.took(*range(start + 1, start + limits.LETTERS_TAKEN))

    before = road.house.store.reads
    await road.delivery.work()
    assert road.house.store.reads - before < 20


def pushed(road: Road, task: str = "t") -> None:
    fence = Fence(1, 2)
    road.delivery.pushed(Assignment(TaskId(task), fence, ADA_ID, WallTime(1)))


async def reads(road: Road) -> int:
    """Return how often the store is asked when a new attempt of ada begins."""
    before = road.house.store.reads
    pushed(road)
    await road.delivery.work()
    return road.house.store.reads - before


async def test_an_attempt_of_an_agent_without_letters_costs_no_reading(road: Road) -> None:
    await road.delivery.work()

    assert await reads(road) == 0
    await road.house.send(ANN, "ada", "one")
    assert await road.brought() == ["one"]
    pushed(road)
    assert await road.brought() == ["one"]
    await road.took(1, seen=True)
    await road.delivery.work()
    assert await reads(road) > 0
    assert await reads(road) == 0


async def test_letters_of_another_project_are_looked_for(road: Road) -> None:
    await road.delivery.work()
    road.house.view.tasks.pop(TaskId("t"))
    road.house.view.held_by[BOX].clear()
    road.house.assign("ada", "u", "other")

    before = road.house.store.reads
    pushed(road, "u")
    await road.delivery.work()
    assert road.house.store.reads > before


async def test_a_letter_that_comes_while_the_mailbox_is_read_is_not_missed(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = road.house.boxes.read

    async def slow(log: str, after: int, limit: int) -> Part:
        part = await read(log, after, limit)
        monkeypatch.setattr(road.house.boxes, "read", read)
        await road.house.send(ANN, "ada", "one")
        return part

    monkeypatch.setattr(road.house.boxes, "read", slow)
    await road.delivery.work()

    assert await road.brought() == ["one"]
    pushed(road)
    assert await road.brought() == ["one"]


async def test_a_letter_that_is_confirmed_at_once_comes_again_until_it_is_seen(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    await road.house.send(ANN, "ada", "one")
    bring = road.switchboard.bring

    def confirmed(machine: MachineId, frame: MailFrame) -> bool:
        sent = bring(machine, frame)
        road.delivery.took(BOX, MailTaken(agent=ADA_ID, seqs=(1,), seen=False))
        return sent

    monkeypatch.setattr(road.switchboard, "bring", confirmed)
    assert await road.brought() == ["one"]

    pushed(road)
    assert await road.brought() == ["one"]


async def test_a_store_that_takes_nothing_is_asked_again(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    await road.house.send(ANN, "ada")
    await road.brought()
    await road.took(1)

    async def full(_log: str, _seqs: object, _state: Delivery) -> None:
        raise StorageFull

    with monkeypatch.context() as patch:
        patch.setattr(road.house.boxes, "reach", full)
        with pytest.raises(StorageFull):
            await road.delivery.work()
    await road.took(1, seen=True)
    await road.delivery.work()
    assert await road.states() == "seen"


async def test_the_child_works_until_it_is_cancelled(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = asyncio.Event()
    monkeypatch.setattr(road.line, "send", lambda _payload: heard.set())
    running = asyncio.create_task(road.delivery.run())
    await road.house.send(ANN, "ada", "one")

    async with asyncio.timeout(PATIENCE_S):
        await heard.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_letters_for_people_and_the_hub_go_nowhere(road: Road) -> None:
    road.delivery.arrived(ANN.address)
    road.delivery.arrived(Address("hub"))

    assert await road.brought() == []


async def told(road: Road) -> list[tuple[str, str]]:
    """Return what comes to the machine now, with the name of the box it is for."""
    before = len(road.line.sent)
    await road.delivery.work()
    found = [frame for frame in road.line.frames[before:] if isinstance(frame, MailFrame)]
    return [(frame.agent, letter.message.body) for frame in found for letter in frame.letters]


TO_T = Address("task:t")


async def state_of_word(road: Road) -> Delivery:
    log = mail_log(DEFAULT_PROJECT, TO_T)
    part = await road.house.boxes.read(log, 0, 10, closed=True)
    (letter,) = part.letters
    return letter.state


async def test_a_word_to_a_task_goes_to_the_machine_that_works_on_it(road: Road) -> None:
    sent = await road.house.send(ANN, "task:t", "use sqlite")

    assert sent.to[0].wakes
    assert await told(road) == [("task:t", "use sqlite")]
    assert await told(road) == []
    road.delivery.took(BOX, MailTaken(agent=AgentId(TO_T), seqs=(1,), seen=True))
    await road.delivery.work()
    assert await state_of_word(road) is Delivery.SEEN


async def test_a_word_to_a_task_that_waits_comes_with_its_next_attempt(road: Road) -> None:
    road.house.assign("bob", "later")
    waits = road.house.view.tasks[TaskId("later")]
    road.house.view.tasks[TaskId("later")] = replace(waits, state=TaskState.QUEUED)
    await road.house.send(ANN, "task:later", "use sqlite")
    assert await told(road) == []

    road.house.view.tasks[TaskId("later")] = waits
    road.delivery.pushed(Assignment(TaskId("later"), Fence(1, 1), AgentId("bob"), WallTime(1)))

    assert await told(road) == [("task:later", "use sqlite")]


async def test_a_hub_that_starts_again_knows_who_was_written_to(road: Road) -> None:
    await road.house.send(ANN, "task:t", "use sqlite")

    after = MailDelivery(road.house.boxes, road.switchboard, lambda: road.house.view)
    road.delivery = after
    road.connect()

    assert await told(road) == [("task:t", "use sqlite")]


async def test_nobody_works_on_a_completed_task_any_more(road: Road) -> None:
    row = road.house.view.tasks[TaskId("t")]
    road.house.view.tasks[TaskId("t")] = replace(row, state=TaskState.COMPLETED)

    for name in ("task:t", "task:unknown"):
        with pytest.raises(NotFound):
            await road.house.send(ANN, name, "too late")


async def test_another_project_has_no_such_task(road: Road) -> None:
    await road.house.admit("eve", project="other")

    with pytest.raises(NotFound):
        await road.house.send(person("eve", "other"), "task:t", "let me in")


async def test_a_machine_that_lost_the_task_confirms_in_vain(road: Road) -> None:
    await road.house.send(ANN, "task:t", "use sqlite")
    await told(road)

    road.delivery.took(MachineId("other"), MailTaken(agent=AgentId(TO_T), seqs=(1,), seen=True))
    await road.delivery.work()

    assert await state_of_word(road) is Delivery.QUEUED


async def test_an_agent_does_not_wake_itself_by_its_task(road: Road) -> None:
    sent = await road.house.send(agent("ada", "t"), "task:t", "note to self")

    assert not sent.to[0].wakes
