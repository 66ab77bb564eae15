from pathlib import Path
from typing import cast

import pytest

from agentcom.model.ids import Fence, TaskId
from agentcom.model.limits import LOG_PART_BYTES
from agentcom.protocol import frames
from agentcom.protocol.live import LogPart, LogWanted
from agentcom.sidecar import whole_log
from agentcom.sidecar.config import Home, Settings
from agentcom.sidecar.machine_values import Key, Noted
from agentcom.sidecar.process import AgentProcess
from agentcom.sidecar.runtime import base
from agentcom.sidecar.watching import LOG_BYTES_MAX, Watch
from agentcom.sidecar.whole_log import WholeLog, part
from tests.sidecar.test_watching import Calls, Run

KEY = Key(TaskId("t1"), Fence(7, 1))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.attempt(KEY.text).mkdir(parents=True)
    return made


def wanted(offset: int, task: str = "t1") -> LogWanted:
    return LogWanted(key="k", task=TaskId(task), fence=KEY.fence, offset=offset)


def test_a_log_is_read_in_parts_to_its_end(home: Home) -> None:
    said = "zwölf Boxkämpfer\n" * 10_000
    log = WholeLog(home.attempt(KEY.text))
    log.add(said.encode())
    assert log.flushed() == len(said.encode())

    found, offset = "", 0
    while (it := part(home, wanted(offset))).text:
        assert len(it.text.encode()) <= LOG_PART_BYTES
        found, offset = found + it.text, it.next

    assert found == said
    assert offset == it.size == len(said.encode())


def test_beyond_the_end_there_is_nothing_yet(home: Home) -> None:
    log = WholeLog(home.attempt(KEY.text))
    log.add(b"one\n")
    log.flushed()

    assert part(home, wanted(99)) == LogPart(key="k", next=4, size=4)


@pytest.mark.parametrize("task", ["t2", "../attempts/t1", ".", ""])
def test_where_there_is_no_log_nothing_is_read(home: Home, task: str) -> None:
    assert part(home, wanted(0, task)) == LogPart(key="k")


def test_a_log_that_is_too_long_says_that_it_is_not_kept(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_log, "BYTES_MAX", 10)
    log = WholeLog(home.attempt(KEY.text))
    log.add(b"0123456789")
    assert log.flushed() == 10
    log.add(b"0")

    assert log.flushed() is None
    assert part(home, wanted(0)).text == "0123456789"


def test_a_log_that_is_made_again_is_the_same(home: Home) -> None:
    for _ in range(2):
        log = WholeLog(home.attempt(KEY.text))
        log.add(b"one\ntwo\n")
        assert log.flushed() == 8

    assert part(home, wanted(4)).text == "two\n"


async def test_what_is_told_says_where_in_the_log_it_belongs(home: Home) -> None:
    told: list[frames.Progress] = []

    async def tell(fact: object) -> None:
        if isinstance(fact, Noted):
            told.append(fact.progress)

    watch = Watch(
        KEY,
        cast("base.Runtime", Calls()),
        Settings(),
        tell=tell,
        whole=WholeLog(home.attempt(KEY.text)),
    )
    said = [f"{number:05} " + "é" * 60 for number in range(LOG_BYTES_MAX // 100)]
    await watch.follow(cast("AgentProcess", Run(said)))

    (one,) = told
    assert one.log_at is not None
    assert one.log_at > 0
    everything = part(home, wanted(one.log_at))
    assert everything.text == one.log
    assert everything.next == everything.size
    assert len(one.log.encode()) <= LOG_BYTES_MAX
