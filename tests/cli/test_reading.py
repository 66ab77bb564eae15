"""The reader of a log, whatever of it comes live and whatever does not."""

import random
from typing import Any, cast

import pytest

from agentcom.cli.reading import Reader
from agentcom.client.hub import HubClient
from agentcom.model.errors import Unavailable
from agentcom.model.ids import TaskId
from agentcom.protocol import frames
from agentcom.protocol.shown import LogTail

WHOLE = "".join(f"Zeile {number}: größer\n" for number in range(200))
DATA = WHOLE.encode()


class Machine:
    """Answers as a machine that has the whole log of attempt 1."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away

    async def get(self, _path: str, _kind: type, params: dict[str, str]) -> LogTail:
        if self.away:
            raise Unavailable("away")
        offset = int(params["offset"])
        end = offset + 500
        while end < len(DATA) and DATA[end] & 0xC0 == 0x80:
            end -= 1
        text = DATA[offset:end].decode()
        return LogTail(TaskId("t1"), int(params["attempt"]), text, min(end, len(DATA)), len(DATA))


def reader(machine: Machine, **printed: Any) -> Reader:
    tail = LogTail(TaskId("t1"), 1, "", **printed)
    return Reader(cast("HubClient", machine), "t1", tail)


def news(begin: int, end: int, attempt: int = 1) -> frames.Activity:
    text = DATA[begin:end].decode()
    return frames.Activity(task=TaskId("t1"), attempt=attempt, log=text, log_at=begin)


def lines() -> list[int]:
    """Return where lines of the log begin."""
    return [0, *(at + 1 for at, byte in enumerate(DATA) if byte == 10)]


@pytest.mark.parametrize("seed", range(20))
async def test_all_of_a_log_is_printed_once_whatever_frames_are_lost_or_repeated(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(seed)
    begins = lines()
    reads = reader(Machine(), next=0)
    place = 0
    while place < len(begins) - 1:
        end = min(len(begins) - 1, place + rng.randint(1, 20))
        if rng.random() < 0.7:
            await reads.take(news(begins[max(0, place - rng.randint(0, 3))], begins[end]))
        place = end
    await reads.rest()

    assert capsys.readouterr().out == WHOLE


async def test_what_cannot_be_had_is_said_and_the_rest_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    begins = lines()
    reads = reader(Machine(away=True), next=0)
    await reads.take(news(begins[3], begins[4]))
    await reads.rest()

    out, err = capsys.readouterr()
    assert out == DATA[begins[3] : begins[4]].decode()
    assert f"{begins[3]} bytes are not shown" in err


async def test_the_next_attempt_has_a_log_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    begins = lines()
    reads = reader(Machine(), next=begins[9])
    await reads.take(news(begins[1], begins[2], attempt=2))

    assert capsys.readouterr().out == DATA[: begins[2]].decode()


async def test_a_machine_that_does_not_say_where_is_printed_as_it_comes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reads = reader(Machine())
    for text in ("one\n", "\x1b]0;title\x07two\n"):
        await reads.take(frames.Activity(task=TaskId("t1"), attempt=1, log=text))
    await reads.rest()

    assert capsys.readouterr().out == "one\ntwo\n"
