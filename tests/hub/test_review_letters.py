"""Letters about pull requests that nobody merged."""

from typing import Any

import msgspec

from agentcom.core.effects import TellClosed
from agentcom.hub.speaking import Speaker
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
