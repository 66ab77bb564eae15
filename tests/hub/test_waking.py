from pathlib import Path

import pytest

from agentcom.hub import waking as module
from agentcom.hub.speaking import Speaker
from agentcom.model import limits
from agentcom.model.ids import TaskId
from agentcom.model.message import Sort
from agentcom.protocol import told
from tests.hub.mail_house import ADA, ANN, BOB, CAT, House, furnish


@pytest.fixture
async def house(tmp_path: Path) -> House:
    made = await furnish(tmp_path)
    made.assign("ada", "task-ada")
    made.assign("bob", "task-bob")
    return made


async def talk(house: House, turns: int) -> list[told.Sent]:
    """Let two agents answer each other."""
    sides: list[tuple[Speaker, str]] = [(ADA, "agent:bob"), (BOB, "agent:ada")]
    return [await house.send(*sides[turn % 2], f"turn {turn}") for turn in range(turns)]


async def test_two_that_only_answer_each_other_wake_nobody_after_a_while(house: House) -> None:
    sent = await talk(house, limits.LOOP_TURNS + 2)

    woken = [one.to[0].wakes for one in sent]
    assert woken == [True] * (limits.LOOP_TURNS - 1) + [False] * 3
    assert [bool(one.warning) for one in sent] == [not wakes for wakes in woken]
    assert "agent:ada" in sent[limits.LOOP_TURNS - 1].warning
    assert len(await house.entries(ADA)) == limits.LOOP_TURNS // 2 + 1  # all are stored


async def test_whoever_asked_for_the_task_is_told_once(house: House) -> None:
    await talk(house, limits.LOOP_TURNS + 6)

    (notice,) = (await house.inbox(ANN)).letters
    assert (notice.message.sort, notice.message.sender) == (Sort.NOTICE, "hub")
    assert "agent:ada" in notice.message.body
    assert notice.message.task == "task-bob"  # whose message was one too many


async def test_others_still_wake_them(house: House) -> None:
    await talk(house, limits.LOOP_TURNS)

    assert (await house.send(CAT, "bob")).to[0].wakes


async def test_a_person_who_writes_ends_it(house: House) -> None:
    await talk(house, limits.LOOP_TURNS)
    await house.send(ANN, "bob", "go on")

    assert (await house.send(ADA, "bob")).to[0].wakes


async def test_an_attempt_that_begins_or_ends_ends_it(house: House) -> None:
    await talk(house, limits.LOOP_TURNS)
    house.assign("bob", "task-bob", attempt=2)
    assert (await talk(house, 1))[0].to[0].wakes

    await talk(house, limits.LOOP_TURNS)
    del house.view.tasks[TaskId("task-ada")], house.view.held_by["box"][TaskId("task-ada")]  # type: ignore[index]  # by its name
    assert (await talk(house, 1))[0].to[0].wakes


async def test_an_agent_is_woken_only_so_often(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WAKES_MAX", 3)
    sent = [await house.send(ANN, "ada") for _ in range(4)]
    assert [one.to[0].wakes for one in sent] == [True, True, True, False]
    assert "often" in sent[3].warning

    house.clock.advance(limits.WAKES_MS)
    assert (await house.send(ANN, "ada")).to[0].wakes


async def test_what_is_remembered_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXCHANGES_MAX", 3)
    names = [f"x{number}" for number in range(9)]
    house.employ(*names)
    waking = module.Waking(lambda: house.view, house.clock)
    monkeypatch.setattr(house.mail, "_waking", waking)
    for name in names:
        await house.send(ADA, name)
        await house.send(ANN, name)

    assert [len(kept) for kept in (waking._exchanges, waking._woken, waking._spoken_to)] == [3] * 3
