"""Talking to a process: each word once, in order, and an end that comes."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agentcom.sidecar import attempt_files, control, process, processes
from agentcom.sidecar.runtime.base import Exit, Launch, Say, Stop
from tests.sidecar.reading import first_line

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")

DEAF = "trap '' TERM; echo ready; exec >&-; while :; do sleep 600; done"


@pytest.fixture
def attempt_dir(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / f"attempt-{os.getpid()}-{tmp_path.name}"
    yield path
    process.kill_survivors(path.name, path)


async def started(folder: Path, *argv: str, talks: bool = True) -> process.AgentProcess:
    launch = Launch(
        argv=argv,
        environment={"PATH": os.environ["PATH"]},
        cwd=str(folder.parent),
        talks=talks,
        opening=b"begin",
    )
    limits = msgspec.structs.replace(process.ProcessLimits(), grace_ms=300)
    return await process.start(folder, launch, limits=limits)


async def lines_of(running: process.AgentProcess) -> list[bytes]:
    return [line async for _, line in running.lines()]


async def test_what_is_said_arrives_once_for_each_key_and_in_order(attempt_dir: Path) -> None:
    running = await started(attempt_dir, "cat")

    for key, data in (("a", b"one\n"), ("b", b"two\n"), ("a", b"three\n"), ("c", b"four\n")):
        assert await running.say(Say(key, data))
    await running.close()

    assert await lines_of(running) == [b"one", b"two", b"four"]
    assert await running.wait() == Exit(code=0)


async def test_a_sidecar_that_comes_later_says_nothing_twice(attempt_dir: Path) -> None:
    first = await started(attempt_dir, "cat")
    await first.say(Say("a", b"one\n"))
    second = await process.attach(attempt_dir)
    assert second is not None

    assert await second.say(Say("a", b"one\n"))
    assert await second.opening() == b"begin"
    await second.close()

    assert await lines_of(second) == [b"one"]


async def test_what_was_said_is_known_when_the_agent_is_gone(attempt_dir: Path) -> None:
    running = await started(attempt_dir, "cat")
    await running.say(Say("a", b"one\n"))
    await running.close()
    await running.wait()

    assert await running.say(Say("a", b"one\n"))
    assert not await running.say(Say("b", b"two\n"))


async def test_an_agent_that_closed_its_input_is_told_nothing(attempt_dir: Path) -> None:
    running = await started(attempt_dir, "sh", "-c", "exec <&-; echo ready; exec sleep 60")
    assert await first_line(running) == b"ready"

    await running.say(Say("a", b"one\n"))

    assert not await running.say(Say("b", b"two\n"))
    await running.stop(Stop.CANCELLED)


async def test_an_agent_that_does_not_talk_is_told_nothing(attempt_dir: Path) -> None:
    running = await started(attempt_dir, "sleep", "60", talks=False)

    assert await running.opening() is None
    assert not await running.say(Say("a", b"one\n"))
    await running.stop(Stop.CANCELLED)


async def test_an_agent_that_does_not_read_keeps_nobody_waiting(attempt_dir: Path) -> None:
    running = await started(attempt_dir, "sh", "-c", "echo ready; exec sleep 60")
    big = b"x" * (control.BODY_BYTES_MAX - 1) + b"\n"

    assert await running.say(Say("a", big))
    assert await running.say(Say("b", big))
    assert not await running.say(Say("c", big))
    assert (await running.stop(Stop.CANCELLED)).stop is Stop.CANCELLED


async def test_a_long_word_arrives_whole(attempt_dir: Path) -> None:
    count = "import sys; print(len(sys.stdin.buffer.readline()))"
    running = await started(attempt_dir, sys.executable, "-S", "-c", count)

    assert await running.say(Say("a", b"x" * 5_000_000 + b"\n"))

    assert await lines_of(running) == [b"5000001"]


async def test_a_word_that_is_too_long_is_not_said(attempt_dir: Path) -> None:
    running = await started(attempt_dir, "cat")

    assert not await running.say(Say("a", b"x" * (control.BODY_BYTES_MAX + 1)))

    await running.close()
    assert await lines_of(running) == []


async def test_an_agent_that_stays_when_its_input_ends_is_ended(attempt_dir: Path) -> None:
    running = await started(attempt_dir, "sh", "-c", DEAF)

    await running.close()

    assert await running.wait() == Exit(code=None, signal=9, stop=Stop.END_TURN)


async def test_an_agent_is_asked_to_end_before_it_is_made_to(attempt_dir: Path) -> None:
    running = await started(attempt_dir, "sh", "-c", "read word; echo got $word; exit 7")
    await running.keep_farewell(b"never said\n")
    await running.keep_farewell(b"bye\n")

    ended = await running.stop(Stop.CANCELLED)

    assert ended == Exit(code=7, stop=Stop.CANCELLED)
    assert await lines_of(running) == [b"got bye"]


async def test_an_agent_that_ignores_its_farewell_is_killed(attempt_dir: Path) -> None:
    running = await started(attempt_dir, "sh", "-c", DEAF)
    await running.keep_farewell(b"bye\n")

    ended = await running.stop(Stop.NO_PROGRESS)

    assert ended == Exit(code=None, signal=9, stop=Stop.NO_PROGRESS)


async def test_only_its_owner_can_read_what_was_said(attempt_dir: Path) -> None:
    running = await started(attempt_dir, "cat")
    await running.say(Say("a", b"one\n"))

    for name in (attempt_files.OPENING, attempt_files.SAID):
        assert (attempt_dir / name).stat().st_mode & 0o077 == 0
    await running.stop(Stop.CANCELLED)


@pytest.mark.parametrize("data", [b"say a 9999999999\n", b"say a -1\n", b"say a\n", b"x" * 256])
def test_what_is_no_command_is_refused(data: bytes) -> None:
    client = control.Client(None)  # type: ignore[arg-type] # it is not read from

    with pytest.raises(ValueError, match=r"."):
        client.take(data)


def test_commands_come_in_pieces() -> None:
    client = control.Client(None)  # type: ignore[arg-type] # it is not read from
    data = b"watch 7\nsay k 3\na\nbclose\n"

    commands = [command for n in range(len(data)) for command in client.take(data[n : n + 1])]

    assert commands == [("watch", "7", b""), ("say", "k", b"a\nb"), ("close", "", b"")]
