"""Letters about pull requests that nobody merged."""

from typing import Any

import msgspec
import pytest

from agentcom.core.effects import TellClosed
from agentcom.hub import review_letters as module
from agentcom.hub.speaking import Speaker
from agentcom.model.batch import Batch, Insert, Table
from agentcom.model.failure import FailureClass
from agentcom.model.ids import DEFAULT_POOL, BatchId
from agentcom.model.task import TaskState
from agentcom.protocol import calls
from tests.hub.service_house import ANN, BOB
from tests.hub.test_asks import House, house

__all__ = ["house"]

URL = "https://forge.example/acme/api/pull/1"
SAID = f"{URL} was closed without being merged"


async def letters(house: House, who: Speaker) -> list[Any]:
    await house.services.conversation.review_letters.work()
    return list((await house.do(who, calls.InboxRead())).letters)


async def test_who_submitted_it_is_told_once_how_it_goes_on(house: House) -> None:
    coder = await house.agent()
    task = await house.task(coder.task)
    for _ in range(2):
        house.services.switchboard.on_closed(TellClosed(task, SAID))

    (letter,) = await letters(house, ANN)

    message = letter.message
    assert (message.sender, message.sort, message.task) == ("hub", "notice", task.id)
    assert SAID in message.body
    assert f"agentcom task retry {task.id}" in message.body
    assert await letters(house, BOB) == []


async def test_the_agent_whose_task_it_is_a_part_of_is_woken(house: House) -> None:
    coder = await house.agent()
    task = await house.task(coder.task)
    part = msgspec.structs.replace(task, id="part", parents=(task.id,))
    house.services.switchboard.on_closed(TellClosed(part, SAID))

    (letter,) = await letters(house, coder)

    assert letter.wakes
    assert letter.message.task == "part"


async def test_a_later_attempt_that_is_closed_is_told_again(house: House) -> None:
    coder = await house.agent()
    task = await house.task(coder.task)
    later = msgspec.structs.replace(task, attempt=task.attempt + 1)
    for one in (task, later):
        house.services.switchboard.on_closed(TellClosed(one, SAID))

    assert len(await letters(house, ANN)) == 2


async def test_a_hub_that_starts_again_tells_what_was_not_told_and_nothing_twice(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 1)
    task = await house.task((await house.agent()).task)
    now = house.clock.now().wall
    closed = msgspec.structs.replace(
        task,
        state=TaskState.FAILED,
        failure=FailureClass.REJECTED,
        reason=SAID,
        pull_request=URL,
        changed_at=now,
    )
    rows = [
        msgspec.structs.replace(closed, id="known"),
        msgspec.structs.replace(closed, id="lost"),
        msgspec.structs.replace(closed, id="old", changed_at=now - module.LOOK_BACK_MS - 1),
        msgspec.structs.replace(closed, id="by-a-person", pull_request=None),
    ]
    changes = tuple(Insert(Table.TASK, row.id, row) for row in rows)
    await house.services.store.commit(Batch(id=BatchId("r"), pool=DEFAULT_POOL, changes=changes))
    house.services.switchboard.on_closed(TellClosed(rows[0], SAID))
    assert len(await letters(house, ANN)) == 1

    await house.services.conversation.review_letters._catch_up()
    told = await letters(house, ANN)

    assert sorted(letter.message.task for letter in told) == ["known", "lost"]
    assert SAID in told[-1].message.body
