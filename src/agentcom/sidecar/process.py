"""The sidecar's side of an attempt: start its supervisor, find it again, read it, stop it.

Nothing here keeps the agent alive: a sidecar that dies loses a connection, never an attempt.
Waiting is always for the end of a connection to the supervisor, so it costs nothing.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Final

import msgspec

from agentcom.model import errors
from agentcom.model.failure import FailureClass
from agentcom.sidecar import (
    agent_input,
    attempt_files,
    control_socket,
    reaping,
    supervise,
    survivors,
)
from agentcom.sidecar.runtime import agent_cli, base
from agentcom.sidecar.supervisors import Supervisors

STOP_MARGIN_MS: Final = 5_000
"""Beyond grace and sweep; a supervisor that takes longer is killed, and then its tree."""

_SOCKETS: Final = "agentcom-sockets-"
_CHUNK_BYTES: Final = 65_536
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class ProcessLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one run may use; output bounds are per stream."""

    deadline_ms: int = 60 * 60_000
    grace_ms: int = 5_000
    output_bytes_max: int = 64 << 20
    """Beyond it only the last `tail_bytes` are kept, and shown at the end."""
    tail_bytes: int = 256 << 10
    line_bytes_max: int = agent_cli.LINE_BYTES_MAX
    """A longer line is cut. A message of megabytes is one line, and its record counts."""
    merge_output: bool = False
    """Standard error goes into the same log as standard output, in order."""
    memory_bytes_max: int = 0
    """Of the whole tree; 0, here and below: no bound."""
    cpus: int = 0
    processes_max: int = 0
    file_bytes_max: int = 0
    """A file that grows beyond ends who writes it."""
    durable: bool = True
    """What it printed and how it ended outlive a power failure: nobody would run it again."""


kill_survivors = survivors.kill_survivors


class NotStarted(errors.AgentComError):
    """The agent's program could not be started; `failure` says why."""

    code: ClassVar[str] = "not_started"
    status: ClassVar[int] = 500

    def __init__(self, failure: FailureClass, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class _Ended(msgspec.Struct, frozen=True):
    """What `exit.json` says; see `supervise.py`."""

    code: int | None = None
    signal: int | None = None
    stop: str | None = None
    error: str | None = None
    truncated: bool = False
    survivors: int = 0
    said: str = ""
    duration_ms: int = 0


class AgentProcess:
    """One attempt's running (or just ended) agent. Holds no resource; dropping it is harmless."""

    def __init__(self, attempt_dir: Path, record: survivors.Record) -> None:
        self.attempt_dir = attempt_dir
        self.attempt = record.attempt
        self._record = record

    async def lines(self, offset: int = 0) -> AsyncGenerator[tuple[int, bytes], None]:
        r"""Yield (offset after the line, line) from `offset` on, live, until all is read.

        Lines end at ``\n`` only, come without it, and are bounded. Give the last offset to a later
        call to go on after that line. Who may stop in the middle closes it (`aclosing`): it holds
        a connection.
        """
        pending = bytearray()
        scanned = 0
        async with contextlib.aclosing(self._chunks(offset)) as chunks:
            async for chunk in chunks:
                pending += chunk
                while (end := pending.find(b"\n", scanned)) >= 0:
                    line = bytes(pending[:end])
                    del pending[: end + 1]
                    offset += end + 1
                    scanned = 0
                    yield offset, line
                scanned = len(pending)
        if pending:
            yield offset + len(pending), bytes(pending)

    async def wait(self) -> base.Exit:
        """Return how the agent ended, once nothing of it is left."""
        while ended(self.attempt_dir) is None and survivors.supervisor_runs(self._record):
            connection = await control_socket.connect(self.attempt_dir)
            if connection is None:
                await asyncio.sleep(control_socket.RETRY_MS / 1000)  # it is about to exit
                continue
            reader, writer = connection
            with contextlib.suppress(ConnectionError):
                await reader.read()
            await control_socket.close(writer)
        return await asyncio.to_thread(self._settle)

    async def stop(self, reason: base.Stop) -> base.Exit:
        """End the whole tree (TERM, grace, KILL, sweep) and return how it ended.

        If it had ended by itself meanwhile, that end stands. Safe to call twice.
        """
        connection = await control_socket.connect(self.attempt_dir)
        if connection is not None:
            reader, writer = connection
            allowed_ms = self._record.grace_ms + reaping.SWEEP_MS_MAX + STOP_MARGIN_MS
            with contextlib.suppress(ConnectionError, TimeoutError):
                writer.write(b"stop %s\n" % reason.value.encode())
                async with asyncio.timeout(allowed_ms / 1000):
                    await reader.read()
            await control_socket.close(writer)
        return await asyncio.to_thread(self._settle)

    async def opening(self) -> bytes | None:
        """Return what its driver has to know to talk to it; None: it does not talk."""
        return await asyncio.to_thread(_read, self.attempt_dir / attempt_files.OPENING)

    async def say(self, said: base.Say) -> bool:
        """Write to its standard input, unless that was done; False if it takes no more."""
        key = said.key.encode()
        answer = await self._command(b"say %s %d\n" % (key, len(said.data)) + said.data)
        if answer:
            return answer == agent_input.SAID
        record = await asyncio.to_thread(_read, self.attempt_dir / attempt_files.SAID)
        return record is not None and key in record.split(b"\n")

    async def keep_farewell(self, data: bytes) -> None:
        """Leave with the supervisor what it says to the agent first when it is to stop it."""
        await self._command(b"farewell %d\n" % len(data) + data)

    async def close(self) -> None:
        """End its standard input; if it stays after that it is ended when its grace is over."""
        await self._command(b"close\n")

    async def _command(self, command: bytes) -> bytes:
        """Return what the supervisor answers; nothing if it is gone."""
        connection = await control_socket.connect(self.attempt_dir)
        if connection is None:
            return b""
        reader, writer = connection
        try:
            writer.write(command)
            await writer.drain()
            return await reader.readline()
        except ConnectionError:
            return b""
        finally:
            await control_socket.close(writer)

    async def _chunks(self, offset: int) -> AsyncGenerator[bytes, None]:
        connection = await control_socket.connect(self.attempt_dir)
        if connection is not None:
            reader, writer = connection
            try:
                writer.write(b"watch %d\n" % offset)
                while chunk := await reader.read(_CHUNK_BYTES):
                    offset += len(chunk)
                    yield chunk
            except ConnectionError:
                pass
            finally:
                await control_socket.close(writer)
        path = self.attempt_dir / attempt_files.STDOUT
        # From a thread: a long log must not keep heartbeats waiting.
        while chunk := await asyncio.to_thread(_read_at, path, offset):
            offset += len(chunk)
            yield chunk

    def _settle(self) -> base.Exit:
        """Return the recorded end; without one the supervisor is lost: end what it left."""
        found = ended(self.attempt_dir)
        _drop_sockets(self.attempt_dir)
        if found is not None:
            return found
        survivors.kill_survivors(self.attempt, self.attempt_dir)
        lost = {"stop": None, "error": "the supervisor was killed"}
        attempt_files.write_json(str(self.attempt_dir / attempt_files.EXIT), lost, durable=True)
        return base.Exit(code=None)


async def start(
    attempt_dir: Path,
    launch: base.Launch,
    *,
    limits: ProcessLimits | None = None,
    attempt: str | None = None,
    supervisors: Supervisors | None = None,
) -> AgentProcess:
    """Start the agent under a supervisor of its own, and return when it runs.

    `attempt` tags every process in its environment; by default it is what the driver set, else the
    folder's name. A start that is cancelled leaves nothing running. `supervisors` are the
    machine's; by default a fork server is started for this supervisor alone.

    Raises:
        NotStarted: the program is missing or cannot be executed.
        Conflict: something ran in this folder before; a folder is for one attempt.
    """
    folder = _absolute(attempt_dir)
    tag = attempt or launch.environment.get(supervise.ATTEMPT_VARIABLE, folder.name)
    await asyncio.to_thread(_prepare, folder, launch, limits or ProcessLimits(), tag)
    running = await _run_or_undo(folder, supervisors or Supervisors())
    record = survivors.read_record(folder)
    if not running or record is None:
        await asyncio.to_thread(kill_survivors, tag, folder)
        (folder / attempt_files.LAUNCH).unlink(missing_ok=True)  # it may hold keys
        raise _not_started(folder, launch)
    return AgentProcess(folder, record)


async def attach(attempt_dir: Path) -> AgentProcess | None:
    """Find the agent that a former sidecar started; None if no supervisor of it runs.

    After None, `ended` tells whether it came to an end; if it did not, the supervisor is lost, and
    `kill_survivors` ends what may be left.
    """
    folder = _absolute(attempt_dir)
    record = survivors.read_record(folder)
    if record is None or ended(folder) is not None or not survivors.supervisor_runs(record):
        return None
    return AgentProcess(folder, record)


def ended(attempt_dir: Path) -> base.Exit | None:
    """Return how the agent ended, or None if it runs, never ran, or lost its supervisor."""
    found = _read_end(attempt_dir)
    if found is None:
        return None
    stop = None if found.stop is None else base.Stop(found.stop)
    return base.Exit(code=found.code, signal=found.signal, stop=stop, said=found.said)


def duration_ms(attempt_dir: Path) -> int:
    """Return how long an ended agent ran, sleep of the computer included; 0 if unknown."""
    found = _read_end(attempt_dir)
    return 0 if found is None else found.duration_ms


def run_files(home: Path, files: Sequence[base.File]) -> None:
    """Write an agent's configuration files below its private home, 0600.

    Raises:
        InvalidInput: a path leaves the home, also through a link that the agent put there.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = home.resolve()
    for file in files:
        pure = PurePosixPath(file.path)
        if pure.is_absolute() or ".." in pure.parts or not pure.name:
            raise errors.InvalidInput("file", f"{file.path} is not a path below the home")
        target = root / pure
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(root):
            raise errors.InvalidInput("file", f"{file.path} leads out of the home by a link")
        _replace(target, file.text)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def _prepare(folder: Path, launch: base.Launch, limits: ProcessLimits, tag: str) -> None:
    if (folder / attempt_files.RECORD).exists() or (folder / attempt_files.EXIT).exists():
        raise errors.Conflict(f"{folder} belongs to an attempt that was started before")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if launch.files:
        run_files(Path(launch.environment["HOME"]), launch.files)
    if launch.talks:
        opening = os.open(folder / attempt_files.OPENING, _NEW_FILE, 0o600)
        with os.fdopen(opening, "wb") as file:
            file.write(launch.opening)
    if launch.provider_log:
        named = f"{launch.environment['HOME']}\n{launch.provider_log}"
        (folder / attempt_files.PROVIDER_LOG).write_text(named, "utf-8")
    if launch.sockets:
        launch = _with_sockets(folder, launch)
    order = _order(launch, limits, tag)
    attempt_files.write_json(str(folder / attempt_files.LAUNCH), order, durable=False)


def _with_sockets(folder: Path, launch: base.Launch) -> base.Launch:
    place = tempfile.mkdtemp(prefix=_SOCKETS)
    (folder / attempt_files.SOCKETS).write_text(place, "utf-8")
    environment = {**launch.environment, launch.sockets: place}
    return msgspec.structs.replace(launch, environment=environment)


def _drop_sockets(folder: Path) -> None:
    """Remove a run's folder for sockets; what the agent wrote in its place is not believed."""
    with contextlib.suppress(OSError):
        named = Path((folder / attempt_files.SOCKETS).read_text("utf-8"))
        ours = named.name.startswith(_SOCKETS) and named.parent == Path(tempfile.gettempdir())
        if ours and not named.is_symlink():
            shutil.rmtree(named, ignore_errors=True)


def _order(launch: base.Launch, limits: ProcessLimits, tag: str) -> dict[str, Any]:
    if not launch.argv:
        raise errors.InvalidInput("argv", "at least the program")
    return {
        "attempt": tag,
        "argv": list(launch.argv),
        "environment": dict(launch.environment),
        "cwd": launch.cwd,
        "talks": launch.talks,
        "brief": list(launch.brief),
        "boxed": launch.boxed,
        **msgspec.structs.asdict(limits),
    }


async def _run_or_undo(folder: Path, supervisors: Supervisors) -> bool:
    starting = asyncio.ensure_future(supervisors.start(folder))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting})
        running = await attach(folder)
        if running is not None:
            await running.stop(base.Stop.CANCELLED)
        raise


def _not_started(folder: Path, launch: base.Launch) -> NotStarted:
    found = _read_end(folder)
    if found is None or found.error is None:
        log = folder / attempt_files.LOG
        return NotStarted(FailureClass.CRASHED, f"the supervisor did not start: see {log}")
    missing = found.code == supervise.NOT_FOUND and Path(launch.cwd).is_dir()
    failure = FailureClass.NOT_INSTALLED if missing else FailureClass.CRASHED
    return NotStarted(failure, found.error)


def _read_at(path: Path, offset: int) -> bytes:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offset)
        return file.read(_CHUNK_BYTES)
    return b""


def _read(path: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def _read_end(folder: Path) -> _Ended | None:
    try:
        return msgspec.json.decode((folder / attempt_files.EXIT).read_bytes(), type=_Ended)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _replace(target: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=target.parent)  # created 0600; never follows a link
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(target)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
