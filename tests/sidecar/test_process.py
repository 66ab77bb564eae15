import asyncio
import contextlib
import os
import selectors
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agentcom.model import errors
from agentcom.model.failure import FailureClass
from agentcom.sidecar import (
    attempt_files,
    control,
    control_socket,
    process,
    processes,
    reaping,
    supervise,
    survivors,
)
from agentcom.sidecar.config import Home
from agentcom.sidecar.runtime import base
from tests.sidecar.reading import first_line

ORPHAN = """
import os, sys, time
said, say = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("orphan", os.getpid(), flush=True)
        os.write(say, b"+")
        time.sleep(600)
    os._exit(0)
os.wait()
os.read(said, 1)
"""
STUBBORN = "trap '' TERM INT HUP; echo ready; while :; do sleep 600; done"


pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")


def launch(*argv: str, cwd: Path, **environment: str) -> base.Launch:
    path = os.environ["PATH"]
    return base.Launch(argv=argv, environment={"PATH": path, **environment}, cwd=str(cwd))


def shell(script: str, *, cwd: Path) -> base.Launch:
    return launch("sh", "-c", script, cwd=cwd)


def python(script: str, *, cwd: Path) -> base.Launch:
    return launch(sys.executable, "-S", "-c", script, cwd=cwd)


def limits(**changes: int) -> process.ProcessLimits:
    return msgspec.structs.replace(process.ProcessLimits(grace_ms=300), **changes)


async def all_lines(running: process.AgentProcess, offset: int = 0) -> list[bytes]:
    return [line async for _, line in running.lines(offset)]


def alive(pid: int) -> bool:
    entry = processes.read_entry(pid)
    return entry is not None and not entry.zombie


def of_attempt(attempt: str) -> set[int]:
    tag = f"{supervise.ATTEMPT_VARIABLE}={attempt}".encode()
    table = processes.read_table()
    return {p for p in table if alive(p) and tag in processes.read_environment(p)}


def peak_memory_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1])


def write_record(attempt_dir: Path, *, pid: int, start: int) -> None:
    record = survivors.Record(
        attempt="a",
        boot=processes.boot_id(),
        pid=pid,
        start=start,
        leader=pid,
        leader_start=start,
        grace_ms=1,
    )
    attempt_dir.mkdir()
    (attempt_dir / attempt_files.RECORD).write_bytes(msgspec.json.encode(record))


@pytest.fixture
def attempt_dir(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / f"attempt-{os.getpid()}-{tmp_path.name}"
    yield path
    process.kill_survivors(path.name, path)


async def test_lines_arrive_with_the_offset_to_go_on_from(
    attempt_dir: Path, tmp_path: Path
) -> None:
    running = await process.start(
        attempt_dir, shell("echo one; echo two; printf end", cwd=tmp_path)
    )

    assert [pair async for pair in running.lines()] == [(4, b"one"), (8, b"two"), (11, b"end")]
    assert await all_lines(running, 4) == [b"two", b"end"]
    assert await running.wait() == base.Exit(code=0)


async def test_only_a_newline_ends_a_line(attempt_dir: Path, tmp_path: Path) -> None:
    script = r"import sys; sys.stdout.buffer.write('a\u2028b\r\x0b\x85c\n'.encode() + b'\xff\0\n')"
    running = await process.start(attempt_dir, python(script, cwd=tmp_path))

    assert await all_lines(running) == ["a\u2028b\r\x0b\x85c".encode(), b"\xff\0"]


async def test_the_agent_gets_the_given_environment_and_no_input(
    attempt_dir: Path, tmp_path: Path
) -> None:
    wanted = launch("sh", "-c", "cat; env", cwd=tmp_path, ONLY="this")
    running = await process.start(attempt_dir, wanted)

    names = {line.split(b"=")[0] for line in await all_lines(running)}
    assert names - {b"PWD", b"SHLVL", b"_", b"OLDPWD"} == {b"PATH", b"ONLY", b"AGENTCOM_ATTEMPT"}
    assert not (attempt_dir / attempt_files.LAUNCH).exists()


def there(path: str) -> bool:
    return Path(path).exists()


def remove(path: str) -> None:
    Path(path).rmdir()


async def test_a_run_has_a_short_folder_for_its_sockets_that_goes_with_it(tmp_path: Path) -> None:
    script = 'echo "$PLACE"; python3 -c "$0"'
    bind = "import os, socket; socket.socket(socket.AF_UNIX).bind(os.environ['PLACE'] + '/t/o')"
    call = launch("sh", "-c", f'mkdir "$PLACE/t" && {script}', bind, cwd=tmp_path)
    attempt_dir = tmp_path / ("long" * 40)

    running = await process.start(attempt_dir, msgspec.structs.replace(call, sockets="PLACE"))
    place = await first_line(running)
    end = await running.wait()

    assert end.code == 0
    assert not there(place.decode())


async def test_a_folder_that_is_not_ours_is_left_alone(attempt_dir: Path, tmp_path: Path) -> None:
    running = await process.start(
        attempt_dir, msgspec.structs.replace(shell("exit 0", cwd=tmp_path), sockets="PLACE")
    )
    place = (attempt_dir / attempt_files.SOCKETS).read_text()
    (attempt_dir / attempt_files.SOCKETS).write_text(str(tmp_path))

    await running.wait()

    assert there(str(tmp_path))
    remove(place)


async def test_output_is_live_and_a_late_reader_misses_nothing(
    attempt_dir: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    script = f"echo before; while [ ! -e {go} ]; do sleep 0.01; done; echo after"
    running = await process.start(attempt_dir, shell(script, cwd=tmp_path))
    assert await first_line(running) == b"before"
    go.touch()

    assert await all_lines(running) == [b"before", b"after"]


@pytest.mark.parametrize(
    ("script", "code", "signalled"), [("exit 7", 7, None), ("kill -9 $$", None, 9)]
)
async def test_the_exit_says_how_the_leader_ended(
    attempt_dir: Path, tmp_path: Path, script: str, code: int | None, signalled: int | None
) -> None:
    running = await process.start(attempt_dir, shell(script, cwd=tmp_path))

    assert await running.wait() == base.Exit(code=code, signal=signalled)
    assert process.ended(attempt_dir) == base.Exit(code=code, signal=signalled)


async def test_a_stop_kills_a_tree_that_ignores_signals(attempt_dir: Path, tmp_path: Path) -> None:
    running = await process.start(attempt_dir, shell(STUBBORN, cwd=tmp_path), limits=limits())
    await first_line(running)

    ended = await running.stop(base.Stop.CANCELLED)
    assert ended == base.Exit(code=None, signal=9, stop=base.Stop.CANCELLED)
    assert of_attempt(running.attempt) == set()


async def test_a_stop_lets_the_leader_end_gracefully(attempt_dir: Path, tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    wanted = limits(grace_ms=60_000)
    running = await process.start(attempt_dir, shell(script, cwd=tmp_path), limits=wanted)
    await first_line(running)

    assert await running.stop(base.Stop.NO_PROGRESS) == base.Exit(
        code=5, stop=base.Stop.NO_PROGRESS
    )
    assert await all_lines(running) == [b"ready", b"bye"]


async def test_a_stop_leaves_no_orphan_in_a_session_of_its_own(
    attempt_dir: Path, tmp_path: Path
) -> None:
    script = ORPHAN + "time.sleep(600)"
    running = await process.start(attempt_dir, python(script, cwd=tmp_path), limits=limits())
    orphan = int((await first_line(running, b"orphan")).split()[1])
    assert alive(orphan)

    await running.stop(base.Stop.CANCELLED)
    assert not alive(orphan)
    assert of_attempt(running.attempt) == set()


async def test_a_normal_end_leaves_no_orphan_either(attempt_dir: Path, tmp_path: Path) -> None:
    running = await process.start(attempt_dir, python(ORPHAN, cwd=tmp_path))
    ended = await running.wait()

    orphan = int((await first_line(running, b"orphan")).split()[1])
    assert ended == base.Exit(code=0)
    assert not alive(orphan)


async def test_orphans_that_scrub_their_environment_die_too(
    attempt_dir: Path, tmp_path: Path
) -> None:
    script = "setsid env -i sleep 600 & setsid sleep 600 & echo ready; wait"
    running = await process.start(attempt_dir, shell(script, cwd=tmp_path), limits=limits())
    await first_line(running)
    table = processes.read_table()
    record = survivors.read_record(attempt_dir)
    assert record is not None
    below = [entry.pid for entry in processes.descendants(table, {record.pid})]

    await running.stop(base.Stop.CANCELLED)
    assert not any(alive(pid) for pid in below)


async def test_the_deadline_is_enforced_without_a_sidecar(
    attempt_dir: Path, tmp_path: Path
) -> None:
    wanted = limits(deadline_ms=200)
    running = await process.start(attempt_dir, shell(STUBBORN, cwd=tmp_path), limits=wanted)

    ended = await running.wait()
    assert ended.stop is base.Stop.DEADLINE
    assert of_attempt(running.attempt) == set()


async def test_the_first_reason_to_stop_stands(attempt_dir: Path, tmp_path: Path) -> None:
    running = await process.start(attempt_dir, shell(STUBBORN, cwd=tmp_path), limits=limits())
    await first_line(running)
    first = await running.stop(base.Stop.CANCELLED)

    assert await running.stop(base.Stop.DEADLINE) == first


async def test_output_beyond_the_bound_is_dropped_but_its_tail_is_kept(
    attempt_dir: Path, tmp_path: Path
) -> None:
    script = "for n in range(200_000): print(f'line {n:08}')"
    wanted = limits(output_bytes_max=10_000, tail_bytes=1_000)
    running = await process.start(attempt_dir, python(script, cwd=tmp_path), limits=wanted)
    await running.wait()

    lines = await all_lines(running)
    assert (attempt_dir / attempt_files.STDOUT).stat().st_size < 12_000
    assert lines[0] == b"line 00000000"
    assert lines[-1] == b"line 00199999"
    assert any(b"bytes of output are not kept" in line for line in lines)


async def test_an_endless_line_is_cut_and_the_next_one_is_whole(
    attempt_dir: Path, tmp_path: Path
) -> None:
    script = "print('x' * 5_000_000); print('next'); print('y' * 1_000)"
    wanted = limits(line_bytes_max=1_000)
    running = await process.start(attempt_dir, python(script, cwd=tmp_path), limits=wanted)

    long, following, fits = await all_lines(running)
    assert long.startswith(b"x" * 1_000 + b" [agentcom")
    assert following == b"next"
    assert fits == b"y" * 1_000


async def test_the_supervisor_needs_no_memory_for_output(attempt_dir: Path, tmp_path: Path) -> None:
    script = (
        "import sys, time\nfor n in range(1_000): sys.stderr.write('x' * 100_000)\n"
        "print('done', flush=True); time.sleep(600)"
    )
    running = await process.start(attempt_dir, python(script, cwd=tmp_path), limits=limits())
    await first_line(running)
    record = survivors.read_record(attempt_dir)
    assert record is not None
    peak_kib = peak_memory_kib(record.pid)
    await running.stop(base.Stop.CANCELLED)

    assert peak_kib < 40_000


async def test_both_streams_can_share_one_log(attempt_dir: Path, tmp_path: Path) -> None:
    wanted = process.ProcessLimits(merge_output=True)
    script = shell("echo one; echo two >&2; echo three", cwd=tmp_path)
    running = await process.start(attempt_dir, script, limits=wanted)

    assert await all_lines(running) == [b"one", b"two", b"three"]


async def test_a_restarted_sidecar_attaches_and_reads_on(attempt_dir: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    starter = f"""
import asyncio, os, pathlib
from agentcom.sidecar import process
from agentcom.sidecar.runtime import base
script = "echo one; while [ ! -e {go} ]; do sleep 0.01; done; echo two; exit 3"
launch = base.Launch(argv=["sh", "-c", script], environment=dict(os.environ), cwd="/")
async def main():
    running = await process.start(pathlib.Path({str(attempt_dir)!r}), launch)
    async for offset, line in running.lines():
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    crashed = await asyncio.create_subprocess_exec(sys.executable, "-c", starter)
    assert await crashed.wait() == -signal.SIGKILL
    assert process.ended(attempt_dir) is None

    running = await process.attach(attempt_dir)
    assert running is not None
    go.touch()
    assert await all_lines(running, 4) == [b"two"]
    assert await running.wait() == base.Exit(code=3)
    assert await process.attach(attempt_dir) is None


async def test_a_recycled_pid_is_not_taken_for_the_supervisor(attempt_dir: Path) -> None:
    write_record(attempt_dir, pid=os.getpid(), start=1)

    assert await process.attach(attempt_dir) is None
    assert process.kill_survivors("nothing-has-this-tag", attempt_dir) == 0


async def test_survivors_of_a_killed_supervisor_are_found_and_killed(
    attempt_dir: Path, tmp_path: Path
) -> None:
    script = f"setsid env -i sleep 600 & setsid sleep 601 & {STUBBORN}"
    running = await process.start(attempt_dir, shell(script, cwd=tmp_path))
    await first_line(running)
    record = survivors.read_record(attempt_dir)
    assert record is not None
    table = processes.read_table()
    below = [entry.pid for entry in processes.descendants(table, {record.pid})]
    supervisor = [table[record.pid]]
    os.kill(record.pid, signal.SIGKILL)
    await asyncio.to_thread(processes.wait_gone, supervisor, timeout_ms=20_000)
    assert await process.attach(attempt_dir) is None
    assert process.ended(attempt_dir) is None

    killed = await asyncio.to_thread(process.kill_survivors, running.attempt, attempt_dir)
    assert killed >= 3
    assert of_attempt(running.attempt) == set()
    assert record.leader in below
    assert not alive(record.leader or 0)


async def test_a_wait_on_a_killed_supervisor_ends_the_tree_and_says_crashed(
    attempt_dir: Path, tmp_path: Path
) -> None:
    running = await process.start(attempt_dir, shell(STUBBORN, cwd=tmp_path))
    await first_line(running)
    waiting = asyncio.create_task(running.wait())
    record = survivors.read_record(attempt_dir)
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)

    assert await waiting == base.Exit(code=None)
    assert process.ended(attempt_dir) == base.Exit(code=None)
    assert of_attempt(running.attempt) == set()


async def test_a_stop_gets_past_a_supervisor_that_hangs(
    attempt_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaping, "SWEEP_MS_MAX", 0)
    monkeypatch.setattr(process, "STOP_MARGIN_MS", 0)
    running = await process.start(attempt_dir, shell(STUBBORN, cwd=tmp_path), limits=limits())
    await first_line(running)
    record = survivors.read_record(attempt_dir)
    assert record is not None
    os.kill(record.pid, signal.SIGSTOP)

    assert await running.stop(base.Stop.CANCELLED) == base.Exit(code=None)
    assert not alive(record.pid)
    assert of_attempt(running.attempt) == set()


async def test_a_supervisor_that_is_told_to_end_takes_the_agent_along(
    attempt_dir: Path, tmp_path: Path
) -> None:
    running = await process.start(attempt_dir, shell(STUBBORN, cwd=tmp_path), limits=limits())
    await first_line(running)
    record = survivors.read_record(attempt_dir)
    assert record is not None
    os.kill(record.pid, signal.SIGTERM)

    assert (await running.wait()).stop is base.Stop.CANCELLED
    assert of_attempt(running.attempt) == set()


async def test_a_missing_program_is_said_to_be_not_installed(
    attempt_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(process.NotStarted, match="no-such-agent") as refusal:
        await process.start(attempt_dir, launch("no-such-agent", cwd=tmp_path))

    assert refusal.value.failure is FailureClass.NOT_INSTALLED
    assert process.ended(attempt_dir) == base.Exit(code=127)


async def test_a_missing_folder_is_not_blamed_on_the_program(
    attempt_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(process.NotStarted, match="gone") as refusal:
        await process.start(attempt_dir, launch("sh", cwd=tmp_path / "gone"))

    assert refusal.value.failure is FailureClass.CRASHED


async def test_a_folder_serves_one_attempt_only(attempt_dir: Path, tmp_path: Path) -> None:
    running = await process.start(attempt_dir, shell("true", cwd=tmp_path))
    await running.wait()

    with pytest.raises(errors.Conflict):
        await process.start(attempt_dir, shell("true", cwd=tmp_path))


async def test_an_agent_that_closes_its_output_is_still_watched(
    attempt_dir: Path, tmp_path: Path
) -> None:
    script = "echo last; exec >&- 2>&-; exit 4"
    running = await process.start(attempt_dir, shell(script, cwd=tmp_path))

    assert await all_lines(running) == [b"last"]
    assert await running.wait() == base.Exit(code=4)


async def test_a_start_that_is_cancelled_leaves_nothing(attempt_dir: Path, tmp_path: Path) -> None:
    starting = asyncio.create_task(
        process.start(attempt_dir, shell(STUBBORN, cwd=tmp_path), limits=limits())
    )
    log = attempt_dir / attempt_files.LOG
    while not await asyncio.to_thread(log.exists):  # noqa: ASYNC110 - another program's file
        await asyncio.sleep(0)
    starting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await starting
    assert of_attempt(attempt_dir.name) == set()
    assert await process.attach(attempt_dir) is None


async def test_nonsense_on_the_control_socket_changes_nothing(
    attempt_dir: Path, tmp_path: Path
) -> None:
    running = await process.start(attempt_dir, shell("read x; sleep 600", cwd=tmp_path))
    connection = await control_socket.connect(attempt_dir)
    assert connection is not None
    reader, writer = connection
    writer.write(b"stop whatever\nwatch -1\nwatch \xff\n" + b"x" * 1_000)

    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    await control_socket.close(writer)
    assert process.ended(attempt_dir) is None
    assert (await running.stop(base.Stop.DEADLINE)).stop is base.Stop.DEADLINE


async def test_a_very_long_folder_name_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    running = await process.start(deep, shell(STUBBORN, cwd=tmp_path), limits=limits())
    again = await process.attach(deep)
    assert again is not None
    assert await first_line(again) == b"ready"

    assert (await running.stop(base.Stop.CANCELLED)).stop is base.Stop.CANCELLED


async def test_many_readers_do_not_disturb_each_other(attempt_dir: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"while [ ! -e {go} ]; do sleep 0.01; done; echo one; echo two"
    running = await process.start(attempt_dir, shell(script, cwd=tmp_path))
    readers = [asyncio.create_task(all_lines(running)) for _ in range(200)]
    ends = [asyncio.create_task(running.wait()) for _ in range(10)]
    go.touch()

    assert await asyncio.gather(*readers) == [[b"one", b"two"]] * 200
    assert set(await asyncio.gather(*ends)) == {base.Exit(code=0)}


def test_configuration_files_are_private(tmp_path: Path) -> None:
    process.run_files(tmp_path / "home", [base.File(".codex/config.toml", "a = 1\n")])

    written = tmp_path / "home/.codex/config.toml"
    assert written.read_text() == "a = 1\n"
    assert written.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "", "link/x"])
def test_configuration_files_stay_below_the_home(tmp_path: Path, path: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "link").symlink_to(tmp_path)

    with pytest.raises(errors.InvalidInput):
        process.run_files(home, [base.File(path, "text")])

    assert not (tmp_path / "x").exists()


async def test_a_long_log_of_an_ended_agent_keeps_nobody_waiting(attempt_dir: Path) -> None:
    write_record(attempt_dir, pid=1, start=0)
    line = b"x" * 999 + b"\n"
    (attempt_dir / attempt_files.STDOUT).write_bytes(line * 5_000)
    (attempt_dir / attempt_files.EXIT).write_text('{"code": 0}')
    record = survivors.read_record(attempt_dir)
    assert record is not None
    read = asyncio.create_task(all_lines(process.AgentProcess(attempt_dir, record)))
    turns = 0
    while not read.done():
        await asyncio.sleep(0)
        turns += 1

    assert len(await read) == 5_000
    assert turns > 5_000_000 // 65_536  # the loop went round at least once for each piece


async def test_the_tag_of_an_attempt_finds_no_process_of_another_home(
    attempt_dir: Path, tmp_path: Path
) -> None:
    here, there = Home(tmp_path / "here"), Home(tmp_path / "there")
    running = await process.start(
        attempt_dir, shell("echo up; sleep 600", cwd=tmp_path), attempt=here.tag("t1.7.1")
    )
    await first_line(running)

    assert process.kill_survivors(there.tag("t1.7.1")) == 0
    assert process.kill_survivors("any name", attempt_dir) > 0


def test_a_sidecar_that_goes_while_output_is_passed_on_does_not_end_the_agent() -> None:
    supervisor = object.__new__(supervise.Supervisor)
    ours, theirs = socket.socketpair()
    gone = control.Client(ours)
    serve = supervisor._serve(gone)
    with selectors.DefaultSelector() as supervisor._selector, theirs:
        supervisor._clients = {gone}
        supervisor._selector.register(ours, selectors.EVENT_READ, serve)

        supervisor._drop(gone)  # the agent said something, and nobody took it
        serve(selectors.EVENT_READ)  # the end of the connection, seen in the same round

        assert supervisor._clients == set()
