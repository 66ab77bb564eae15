import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agentcom.sidecar import guarding, process, processes, survivors
from agentcom.sidecar.confines import PROCESSES_MAX, Confines, bound
from agentcom.sidecar.runtime import base
from agentcom.sidecar.supervise import Order
from tests.sidecar.reading import first_line

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")

MIB = 1 << 20
HIDDEN = """
import os, subprocess, sys, time
started, tell = os.pipe()
os.set_inheritable(tell, True)
program = "import os, sys, time; os.write(int(sys.argv[2]), b'+'); time.sleep(600)"
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-S", "-c", program, MARK, str(tell)], {})
        os._exit(0)
    os.wait()
for _ in range(3):
    os.read(started, 1)
print("ready", flush=True)
time.sleep(600)
"""
"""Three daemons in sessions of their own, with empty environments."""


def script(text: str, cwd: Path) -> base.Launch:
    environment = {"PATH": os.environ["PATH"]}
    argv = (sys.executable, "-S", "-c", text)
    return base.Launch(argv=argv, environment=environment, cwd=str(cwd))


def limits(**changes: int) -> process.ProcessLimits:
    return msgspec.structs.replace(process.ProcessLimits(grace_ms=300), **changes)


def marked(mark: str) -> list[int]:
    """Return the processes that have a word on their command line."""
    found = []
    for pid, entry in processes.read_table().items():
        try:
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in argv and not entry.zombie:
            found.append(pid)
    return found


@pytest.fixture
def attempt_dir(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / f"guarded-{os.getpid()}-{tmp_path.name}"
    yield path
    process.kill_survivors(path.name, path)


async def ended(running: process.AgentProcess) -> base.Exit:
    async with asyncio.timeout(60):
        return await running.wait()


async def test_a_tree_that_takes_more_memory_than_it_may_is_ended_and_says_so(
    attempt_dir: Path, tmp_path: Path
) -> None:
    hog = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    kept = bytearray(b'x') * (90 << 20)\n"
        "    time.sleep(600)\n"
        "time.sleep(600)"
    )
    running = await process.start(
        attempt_dir, script(hog, tmp_path), limits=limits(memory_bytes_max=64 * MIB)
    )

    end = await ended(running)

    assert end.stop is base.Stop.MEMORY
    assert "may use 64 MiB" in end.said


async def test_what_processes_share_counts_once(attempt_dir: Path, tmp_path: Path) -> None:
    shared = (
        "import os\n"
        "kept = bytearray(b'x') * (40 << 20)\n"
        "said, say = os.pipe()\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0:\n"
        "        os.close(say); os.read(said, 1); os._exit(0)\n"
        "import time; time.sleep(0.3)"
    )
    running = await process.start(
        attempt_dir, script(shared, tmp_path), limits=limits(memory_bytes_max=110 * MIB)
    )

    assert await ended(running) == base.Exit(code=0)


async def test_one_process_cannot_take_all_memory_between_two_looks(
    attempt_dir: Path, tmp_path: Path
) -> None:
    running = await process.start(
        attempt_dir,
        script("bytearray(10 << 30)", tmp_path),
        limits=limits(memory_bytes_max=256 * MIB),
    )

    end = await ended(running)

    assert end.code == 1 or end.stop is base.Stop.MEMORY


async def test_too_many_processes_are_ended_whatever_sessions_they_make(
    attempt_dir: Path, tmp_path: Path
) -> None:
    bomb = (
        "import os, time\n"
        "for _ in range(200):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        time.sleep(600)\n"
        "time.sleep(600)"
    )
    running = await process.start(
        attempt_dir, script(bomb, tmp_path), limits=limits(processes_max=50)
    )

    end = await ended(running)

    assert end.stop is base.Stop.PROCESSES
    assert "may have 50" in end.said


async def test_processes_that_multiply_while_they_are_killed_are_ended(
    attempt_dir: Path, tmp_path: Path
) -> None:
    mark = f"multiply-{tmp_path.name}"
    bomb = (
        f"import os, sys, time\n"
        f"if sys.argv[-1] != {mark!r}:\n"
        f"    os.execv(sys.executable, [sys.executable, '-S', '-c', sys.orig_argv[3], {mark!r}])\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0: break\n"
        "end = time.monotonic() + 8\n"
        "while time.monotonic() < end:\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"  # the child goes on under a new number, again and again
        "    os.setsid()\n"
        "    time.sleep(0.001)\n"
    )
    running = await process.start(attempt_dir, script(bomb, tmp_path), limits=limits(deadline_ms=1))

    await ended(running)

    assert marked(mark) == []


async def test_a_file_that_grows_too_large_ends_who_writes_it(
    attempt_dir: Path, tmp_path: Path
) -> None:
    writer = (
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "open('big', 'wb').write(bytes(3 << 20))"
    )
    running = await process.start(
        attempt_dir, script(writer, tmp_path), limits=limits(file_bytes_max=MIB)
    )

    assert (await ended(running)).signal == signal.SIGXFSZ
    assert (tmp_path / "big").stat().st_size == MIB


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux")
async def test_an_attempt_runs_on_as_many_processors_as_it_may(
    attempt_dir: Path, tmp_path: Path
) -> None:
    count = "import os; print(len(os.sched_getaffinity(0)))"
    running = await process.start(attempt_dir, script(count, tmp_path), limits=limits(cpus=1))

    await ended(running)

    assert (attempt_dir / "stdout.log").read_text() == "1\n"


@pytest.mark.skipif(guarding.delegated() is None, reason="no control group of our own")
async def test_daemons_without_environment_die_with_their_group_when_the_supervisor_is_killed(
    attempt_dir: Path, tmp_path: Path
) -> None:
    mark = f"hidden-{tmp_path.name}"
    text = HIDDEN.replace("MARK", repr(mark))
    running = await process.start(attempt_dir, script(text, tmp_path), limits=limits())
    assert await first_line(running) == b"ready"
    record = survivors.read_record(attempt_dir)
    assert record is not None
    assert record.group
    assert len(marked(mark)) == 3
    os.kill(record.pid, signal.SIGKILL)

    assert process.kill_survivors(running.attempt, attempt_dir) == 4
    assert marked(mark) == []
    assert not os.path.exists(record.group)  # noqa: ASYNC240, PTH110 - at once


@pytest.mark.skipif(guarding.delegated() is None, reason="no control group of our own")
async def test_no_group_is_left_of_an_attempt_that_could_not_start(
    attempt_dir: Path, tmp_path: Path
) -> None:
    parent = guarding.delegated()
    assert parent is not None
    launch = base.Launch(argv=("no-such-program",), environment={}, cwd=str(tmp_path))

    with pytest.raises(process.NotStarted):
        await process.start(attempt_dir, launch)

    name = f"{guarding.GROUP_PREFIX}{attempt_dir.name}"
    assert [it for it in os.listdir(parent) if it.startswith(name)] == []  # noqa: PTH208 - at once


def test_a_group_is_told_its_bounds_in_the_kernels_words() -> None:
    assert guarding.settings(of("a", memory_bytes_max=MIB, cpus=2, processes_max=7)) == {
        "memory.max": b"1048576",
        "memory.swap.max": b"0",
        "memory.oom.group": b"1",
        "pids.max": b"7",
        "cpu.max": b"200000 100000",
    }
    assert guarding.settings(of("a")) == {}


def test_what_a_group_bounds_is_not_watched(tmp_path: Path) -> None:
    bounds = of("a/b", memory_bytes_max=MIB, processes_max=7)
    group = tmp_path / f"{guarding.GROUP_PREFIX}a_b-{os.getpid()}"
    made = guarding.Guard(bounds, parent=lambda: None)

    assert made.pause_s() == 0.0
    for name in ("cgroup.kill", *guarding.settings(bounds)):
        group.mkdir(exist_ok=True)
        (group / name).touch()
    assert guarding.hold(str(group), bounds) == {"memory", "pids"}


def of(attempt: str, **changes: int) -> guarding.Bounds:
    plain = {
        "argv": [],
        "environment": {},
        "cwd": "/",
        "deadline_ms": 1,
        "grace_ms": 1,
        "output_bytes_max": 1,
        "tail_bytes": 1,
        "line_bytes_max": 1,
        "brief": [],
        "merge_output": False,
        "talks": False,
    }
    return Order(attempt=attempt, **plain, **changes)  # type: ignore[arg-type] # a plain table


@pytest.mark.parametrize(
    ("confines", "uses", "memory_mb", "cpus"),
    [
        (Confines(), {}, 7_000, 0),
        (Confines(), {"memory_mb": 500, "cpu": 2}, 500, 2),
        (Confines(memory_mb=1_000, cpus=3), {"memory_mb": 500, "cpu": 4}, 500, 3),
        (Confines(memory_mb=1_000), {"memory_mb": 5_000}, 1_000, 0),
    ],
)
def test_an_attempt_may_use_what_it_reserved_and_never_more_than_its_agent(
    confines: Confines, uses: dict[str, int], memory_mb: int, cpus: int
) -> None:
    made = bound(process.ProcessLimits(), confines, uses, {"memory_mb": 8_000, "cpu": 8})

    assert made.memory_bytes_max == memory_mb * MIB
    assert made.cpus == cpus
    assert made.processes_max == PROCESSES_MAX
