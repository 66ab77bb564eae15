"""The supervisor of one attempt: a small program that outlives the sidecar and leaves nothing.

It is the child subreaper of exactly one agent: it starts it, drains its output into files, enforces
the deadline, and at the end kills and reaps every descendant before it writes `exit.json`. It is
standard library only, and a fork of `fork_server.py`, since it must start fast. `process.py` is the
sidecar's side of it. The attempt's folder holds:

    launch.json      the order; removed when read, since the environment may hold keys
    supervisor.json  who runs: pids with their start times, so a recycled pid is not mistaken
    control.sock     one command per connection, closed at the end: `watch OFFSET`, `stop REASON`;
                     of an agent that talks `say KEY LENGTH` and `farewell LENGTH`, each with so
                     many bytes behind its line, and `close`: a word back tells what came of it
    stdout.log, stderr.log, supervisor.log, exit.json
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import IO, Final, NamedTuple

from agentcom.sidecar import agent_input, attempt_files, guarding, processes, reaping
from agentcom.sidecar.control import Client, Command
from agentcom.sidecar.reaping import boot_s

ATTEMPT_VARIABLE: Final = "AGENTCOM_ATTEMPT"
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
"""Exit codes of an agent that could not be started, as shells use them."""

_SIGNALLED: Final = 128
_CHUNK_BYTES: Final = 65_536
_CLIENTS_MAX: Final = 32
_BACKLOG: Final = 128
_SLEEP_S_MAX: Final = 30.0
"""Timers stand still while a computer sleeps; look at the boot-time clock at least this often."""
_POLITE_S_MAX: Final = 2.0
"""An agent that was asked by its protocol to end does so in tenths of a second, or not at all."""
_REASONS: Final = frozenset({"cancelled", "no_progress", "deadline", "error"})
_UMASK_AGENT: Final = 0o022
_LOGS: Final = (attempt_files.STDOUT, attempt_files.STDERR)


class Order(NamedTuple):
    """What `launch.json` says. Both bounds and the tail count per stream."""

    attempt: str
    argv: list[str]
    environment: dict[str, str]
    cwd: str
    deadline_ms: int
    grace_ms: int
    output_bytes_max: int
    tail_bytes: int
    line_bytes_max: int
    brief: list[str]
    merge_output: bool
    talks: bool
    memory_bytes_max: int = 0
    cpus: int = 0
    processes_max: int = 0
    file_bytes_max: int = 0
    durable: bool = True
    boxed: bool = False
    """The program is a sandbox: it ends by 128 + n if signal n ended what is in it."""


class Supervisor:
    """Runs one agent to its end."""

    def __init__(self, order: Order) -> None:
        """Listen before anything runs; the working folder is the attempt's."""
        self._order = order
        self._started = boot_s()
        self.guard = guarding.Guard(order)
        self._deadline = self._started + order.deadline_ms / 1000
        self._signal_at: list[tuple[float, signal.Signals]] = []
        self._linger_until: float | None = None
        self._stop: str | None = None
        self._ended = False
        self._status: int | None = None
        self._clients: set[Client] = set()
        self._selector = selectors.DefaultSelector()
        self._signals = reaping.catch_signals()
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signal)
        self._listener = _listen()
        self._selector.register(self._listener, selectors.EVENT_READ, self._on_connect)
        self._logs = {name: _open_log(name, order) for name in _LOGS}
        self._pipes: dict[int, attempt_files.BoundedLog] = {}
        self._input = agent_input.AgentInput(self._selector)

    def start(self) -> None:
        """Start the agent, without a shell and with exactly the given environment.

        Raises:
            OSError: the program is not there or cannot be executed.
        """
        self._write_record(None)
        order = self._order
        self._agent = subprocess.Popen(  # noqa: S603 - an argv list from the operator's settings
            order.argv,
            stdin=subprocess.PIPE if order.talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if order.merge_output else subprocess.PIPE,
            cwd=order.cwd,
            env={**order.environment, ATTEMPT_VARIABLE: order.attempt},
            start_new_session=True,
            umask=_UMASK_AGENT,
            preexec_fn=self.guard.enter,  # noqa: PLW1509 - this process has one thread
        )
        self._write_record(self._agent.pid)
        if self._agent.stdin is not None:
            self._input.open(self._agent.stdin, attempt_files.SAID)
        for pipe, name in zip((self._agent.stdout, self._agent.stderr), _LOGS, strict=True):
            if pipe is not None:
                self._add_pipe(pipe, self._logs[name])

    def run(self) -> None:
        """Drain, obey and watch the clock until the agent ended; then leave nothing behind."""
        try:
            while not self._ended:
                for key, events in self._selector.select(self._pause_s()):
                    key.data(events)
                self._check_clock()
        finally:
            self._finish()

    def _check_clock(self) -> None:
        now = boot_s()
        while self._signal_at and now >= self._signal_at[0][0]:
            self._signal_group(self._signal_at.pop(0)[1])
        if now >= self._deadline:
            self._request_stop("deadline")
        elif self._linger_until is not None and now >= self._linger_until:
            self._request_stop("end_turn")
        passed = self.guard.look()
        if passed is not None and self._stop is None:
            self._stop = passed
            self._signal_at = [(now, signal.SIGKILL)]  # at once: the computer is not to suffer

    def _pause_s(self) -> float | None:
        look_s = self.guard.pause_s()
        if self._stop is not None and not self._signal_at:
            return look_s
        due = self._signal_at[0][0] if self._signal_at else self._deadline
        if self._linger_until is not None and self._stop is None:
            due = min(due, self._linger_until)
        pause_s = min(max(0.0, due - boot_s()), _SLEEP_S_MAX)
        return pause_s if look_s is None else min(pause_s, look_s)

    def _request_stop(self, reason: str) -> None:
        if self._stop is not None:
            return
        self._stop = reason
        grace_s = self._order.grace_ms / 1000
        term_at = boot_s() + (min(grace_s, _POLITE_S_MAX) if self._input.part() else 0.0)
        self._signal_at = [(term_at, signal.SIGTERM), (term_at + grace_s, signal.SIGKILL)]
        self._check_clock()

    def _close_input(self) -> None:
        """End the input; an agent that is still there after its grace is ended."""
        self._input.close()
        if self._linger_until is None:
            self._linger_until = boot_s() + self._order.grace_ms / 1000

    def _signal_group(self, number: signal.Signals) -> None:
        if self._order.boxed and number is signal.SIGTERM:  # a sandbox would take all along at once
            reaping.signal_inner(self._agent.pid, number)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._agent.pid, number)

    def _finish(self) -> None:
        if not self._ended and self._stop is None:
            self._stop = "error"
        self._signal_group(signal.SIGKILL)  # before the reaping: until then the id is ours
        enforced = self.guard.end()
        if self._status is None:
            self._status = os.waitpid(self._agent.pid, 0)[1]
        self._stop = self._stop or enforced
        survivors = reaping.sweep(self._signals)
        self._drain()
        for log in self._logs.values():
            log.finish(durable=self._order.durable)
        self._write_exit(survivors)
        for client in list(self._clients):
            self._pump(client)
            self._drop(client)
        os.unlink(attempt_files.SOCKET)  # noqa: PTH108 - as above

    def _drain(self) -> None:
        for handle, log in list(self._pipes.items()):
            with contextlib.suppress(BlockingIOError):
                while chunk := os.read(handle, _CHUNK_BYTES):
                    log.write(chunk)

    def _write_exit(self, survivors: int) -> None:
        code = os.waitstatus_to_exitcode(self._status or 0)
        if self._order.boxed and code > _SIGNALLED:
            code = _SIGNALLED - code
        ended = {
            "code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "stop": self._stop,
            "truncated": any(log.truncated for log in self._logs.values()),
            "survivors": survivors,
            "said": self.guard.said,
            "duration_ms": int((boot_s() - self._started) * 1000),
        }
        attempt_files.write_json(attempt_files.EXIT, ended, durable=self._order.durable)

    def _write_record(self, leader: int | None) -> None:
        ours, theirs = processes.read_entry(os.getpid()), processes.read_entry(leader or 0)
        record = {
            "attempt": self._order.attempt,
            "boot": processes.boot_id(),
            "pid": os.getpid(),
            "start": ours.start if ours else 0,
            "leader": leader,
            "leader_start": theirs.start if theirs else 0,
            "grace_ms": self._order.grace_ms,
            "group": self.guard.group,
        }
        attempt_files.write_json(attempt_files.RECORD, record, durable=False)

    def _add_pipe(self, pipe: IO[bytes], log: attempt_files.BoundedLog) -> None:
        handle = pipe.fileno()
        os.set_blocking(handle, False)
        self._pipes[handle] = log
        self._selector.register(handle, selectors.EVENT_READ, self._reader_of(handle, log))

    def _reader_of(self, handle: int, log: attempt_files.BoundedLog) -> Callable[[int], None]:
        def read(_events: int) -> None:
            chunk = os.read(handle, _CHUNK_BYTES)
            if not chunk:
                self._selector.unregister(handle)
                del self._pipes[handle]
                return
            log.write(chunk)
            for client in list(self._clients):
                self._pump(client)

        return read

    def _on_signal(self, _events: int) -> None:
        if signal.SIGTERM in self._signals.recv(_CHUNK_BYTES):
            self._request_stop("cancelled")
        if not hasattr(os, "waitid"):  # macOS, where no orphans are re-parented to us either
            reaped, status = os.waitpid(self._agent.pid, os.WNOHANG)
            self._ended = reaped != 0
            self._status = status if reaped else None
            return
        while not self._ended:
            # WNOWAIT keeps the leader's pid, so that its group can still be signalled safely
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if info is None:
                return
            self._ended = info.si_pid == self._agent.pid
            if not self._ended:
                os.waitpid(info.si_pid, os.WNOHANG)

    def _on_connect(self, _events: int) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        client = Client(connection)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, self._serve(client))
        if len(self._clients) >= _CLIENTS_MAX:
            self._selector.unregister(self._listener)  # the others wait in the backlog

    def _serve(self, client: Client) -> Callable[[int], None]:
        def serve(events: int) -> None:
            if events & selectors.EVENT_READ:
                self._receive(client)
            if client in self._clients:
                self._pump(client)

        return serve

    def _receive(self, client: Client) -> None:
        try:
            data = client.connection.recv(_CHUNK_BYTES)
            commands = client.take(data)
        except (OSError, ValueError):
            data, commands = b"", []
        if not data:
            self._drop(client)
            return
        for command in commands:
            answer = self._obey(client, command)
            if answer is not None:
                with contextlib.suppress(OSError):
                    client.connection.send(answer)

    def _obey(self, client: Client, command: Command) -> bytes | None:
        match command:
            case ("watch", argument, _) if argument.isdecimal():
                client.offset = int(argument)
            case ("stop", argument, _) if argument in _REASONS:
                self._request_stop(argument)
            case ("say", key, body):
                return self._input.say(key, body)
            case ("farewell", _, body):
                return self._input.keep_farewell(body)
            case ("close", _, _):
                self._close_input()
                return agent_input.CLOSED
            case _:
                pass
        return None

    def _pump(self, client: Client) -> None:
        """Send what the file holds beyond the client's offset, as far as the socket takes it."""
        blocked = False
        while client.offset is not None and not blocked:
            data = os.pread(self._logs[attempt_files.STDOUT].handle, _CHUNK_BYTES, client.offset)
            if not data:
                break
            try:
                client.offset += client.connection.send(data)
            except BlockingIOError:
                blocked = True
            except OSError:
                self._drop(client)
                return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
        self._selector.modify(client.connection, events, self._serve(client))

    def _drop(self, client: Client) -> None:
        if client not in self._clients:
            return  # it went while output was passed on, and had events of that round left
        if len(self._clients) >= _CLIENTS_MAX:
            self._selector.register(self._listener, selectors.EVENT_READ, self._on_connect)
        self._clients.discard(client)
        self._selector.unregister(client.connection)
        client.connection.close()


def main(folder: str) -> int:
    """Detach from the caller, and return 0 once the agent runs, 1 if it could not be started."""
    os.chdir(folder)
    os.umask(0o077)
    with open(attempt_files.LAUNCH, encoding="utf-8") as file:  # noqa: PTH123 - as above
        order = Order(**json.load(file))
    os.unlink(attempt_files.LAUNCH)  # noqa: PTH108 - as above
    waiting, ready = os.pipe()
    if os.fork():
        os.close(ready)
        return 0 if os.read(waiting, 1) else 1
    os.close(waiting)
    os.setsid()
    reaping.become_reaper()
    supervisor = Supervisor(order)
    try:
        supervisor.start()
    except OSError as error:
        supervisor.guard.end()
        _write_failure(order, error)
        return 1
    with contextlib.suppress(BrokenPipeError):  # a sidecar that died meanwhile changes nothing
        os.write(ready, b"+")
    os.close(ready)
    supervisor.run()
    return 0


def _write_failure(order: Order, error: OSError) -> None:
    missing = isinstance(error, FileNotFoundError)
    what = order.cwd if error.filename == order.cwd else order.argv[0]
    failure = {
        "code": NOT_FOUND if missing else NOT_EXECUTABLE,
        "error": f"cannot start {what}: {error.strerror}",
    }
    attempt_files.write_json(attempt_files.EXIT, failure, durable=True)


def _open_log(name: str, order: Order) -> attempt_files.BoundedLog:
    return attempt_files.BoundedLog(
        name,
        bytes_max=order.output_bytes_max,
        tail_bytes=order.tail_bytes,
        line_bytes_max=order.line_bytes_max,
        brief=tuple(prefix.encode() for prefix in order.brief),
    )


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(attempt_files.SOCKET)  # relative: an absolute path may be too long for the kernel
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener
