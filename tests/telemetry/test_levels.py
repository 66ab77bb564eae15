import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from agentcom.model.errors import InvalidInput
from agentcom.telemetry.levels import FOR_MAX_MS, LOGGERS_MAX, Levels
from agentcom.telemetry.logs import LogPipe, configure
from agentcom.testing.waiting import PATIENCE_S

QUIET, LOUD = "agentcom.test.quiet", "agentcom.test.loud"


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def pipe(stream: io.StringIO) -> Iterator[LogPipe]:
    level = logging.getLogger().level
    made = configure(as_json=True, stream=stream)
    yield made
    made.close()
    logging.getLogger().setLevel(level)


@pytest.fixture
async def levels(pipe: LogPipe) -> Levels:
    return Levels()


def written(pipe: LogPipe, stream: io.StringIO) -> list[str]:
    pipe.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line["event"] for line in lines if line["event"] != "log.level"]


def say(level: str) -> None:
    for name in (QUIET, LOUD):
        getattr(structlog.get_logger(name), level)(f"{name}.{level}")


async def test_everything_can_be_said_for_a_while(
    levels: Levels, pipe: LogPipe, stream: io.StringIO
) -> None:
    say("debug")
    levels.set("debug")
    say("debug")
    levels.close()
    say("debug")

    assert written(pipe, stream) == [f"{QUIET}.debug", f"{LOUD}.debug"]


async def test_one_logger_can_say_more_than_the_others(
    levels: Levels, pipe: LogPipe, stream: io.StringIO
) -> None:
    levels.set("debug", logger=LOUD)
    say("debug")
    levels.close()

    assert written(pipe, stream) == [f"{LOUD}.debug"]


async def test_one_logger_can_be_silenced(
    levels: Levels, pipe: LogPipe, stream: io.StringIO
) -> None:
    levels.set("error", logger="agentcom.test")
    say("warning")
    levels.close()

    assert written(pipe, stream) == []


async def test_it_falls_back_by_itself(levels: Levels, pipe: LogPipe, stream: io.StringIO) -> None:
    back = asyncio.Event()
    levels._changed = lambda: back.set() if not levels.overrides() else None
    levels.set("debug", for_ms=1)
    async with asyncio.timeout(PATIENCE_S):
        await back.wait()
    say("debug")

    assert written(pipe, stream) == []


async def test_it_is_shown_with_the_time_that_is_left(levels: Levels) -> None:
    levels.set("debug", for_ms=60_000)
    levels.set("warning", logger=LOUD, for_ms=30_000)
    levels.set("error", logger=LOUD, for_ms=20_000)

    everything, loud = levels.overrides()
    assert (everything.logger, everything.level, levels.usual) == ("", "debug", "info")
    assert (loud.logger, loud.level) == (LOUD, "error")
    assert 19_000 < loud.left_ms <= 20_000
    levels.set("usual", logger=LOUD)
    assert len(levels.overrides()) == 1
    levels.close()


@pytest.mark.parametrize(
    ("level", "logger", "for_ms"),
    [("loud", "", 1), ("debug", "", 0), ("debug", "", FOR_MAX_MS + 1), ("debug", "a\nb", 1)],
)
async def test_what_makes_no_sense_changes_nothing(
    levels: Levels, level: str, logger: str, for_ms: int
) -> None:
    with pytest.raises(InvalidInput):
        levels.set(level, logger=logger, for_ms=for_ms)

    assert levels.overrides() == ()


async def test_there_is_a_bound_on_loggers(levels: Levels) -> None:
    for number in range(LOGGERS_MAX):
        levels.set("debug", logger=f"agentcom.test.{number}")

    with pytest.raises(InvalidInput):
        levels.set("debug", logger="agentcom.test.one.more")
    levels.set("info", logger="agentcom.test.0")
    levels.close()


async def test_who_holds_a_logger_is_told(pipe: LogPipe) -> None:
    told: list[int] = []
    levels = Levels(lambda: told.append(1))

    levels.set("debug")
    levels.close()

    assert len(told) == 2
