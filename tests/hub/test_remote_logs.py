import asyncio

import pytest

from agentcom.hub import remote_logs
from agentcom.hub.remote_logs import RemoteLogs
from agentcom.model.errors import RateLimited, Timeout, Unavailable
from agentcom.model.ids import Fence, MachineId, TaskId
from agentcom.protocol.live import LogPart, LogWanted

TASK, FENCE = TaskId("t1"), Fence(7, 1)
ATTIC, ROOF = MachineId("attic"), MachineId("roof")


class Line:
    """A connection that keeps what it is given."""

    def __init__(self) -> None:
        self.brought: list[tuple[MachineId, LogWanted]] = []
        self.there = True

    def bring(self, machine: MachineId, frame: LogWanted) -> bool:
        self.brought.append((machine, frame))
        return self.there


async def asked(logs: RemoteLogs, line: Line) -> asyncio.Task[LogPart]:
    task = asyncio.create_task(logs.read(ATTIC, TASK, FENCE, 5))
    count = len(line.brought)
    await asyncio.sleep(0)
    assert len(line.brought) == count + 1
    return task


async def test_each_reader_gets_its_own_part_from_its_own_machine() -> None:
    line = Line()
    logs = RemoteLogs(line.bring)
    first, second = await asked(logs, line), await asked(logs, line)
    (_, one), (_, two) = line.brought

    logs.took(ROOF, LogPart(key=one.key, text="forged"))
    logs.took(ATTIC, LogPart(key="unknown"))
    logs.took(ATTIC, LogPart(key=two.key, text="two"))
    logs.took(ATTIC, LogPart(key=one.key, text="one"))
    logs.took(ATTIC, LogPart(key=one.key, text="again"))

    assert ((await first).text, (await second).text) == ("one", "two")
    assert one == LogWanted(key=one.key, task=TASK, fence=FENCE, offset=5)


async def test_a_machine_that_is_away_is_not_waited_for() -> None:
    line = Line()
    line.there = False

    with pytest.raises(Unavailable):
        await RemoteLogs(line.bring).read(ATTIC, TASK, FENCE, 0)


async def test_a_machine_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_logs, "WAIT_S_MAX", 0.0)

    with pytest.raises(Timeout):
        await RemoteLogs(Line().bring).read(ATTIC, TASK, FENCE, 0)


async def test_parts_on_their_way_are_bounded_and_readers_that_left_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_logs, "ASKED_MAX", 1)
    line = Line()
    logs = RemoteLogs(line.bring)
    reader = await asked(logs, line)

    with pytest.raises(RateLimited):
        await logs.read(ROOF, TASK, FENCE, 0)
    reader.cancel()
    await asyncio.wait([reader])

    again = await asked(logs, line)
    again.cancel()
    await asyncio.wait([again])
    assert len(line.brought) == 2
