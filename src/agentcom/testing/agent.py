"""The test agent: a program that behaves like an agent's command line program, without a model.

``python -m agentcom.testing.agent --prompt=TEXT`` performs the steps of the scenario that the
prompt (else the prompt in the task file) asks for, and prints the runtime's events as JSON lines.
"""

import argparse
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, assert_never

import msgspec

from agentcom.model import errors
from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import agent_cli, base
from agentcom.testing import scenario

ORPHAN_LIFE_S: Final = 600
"""An orphan that nobody kills ends itself, so that a failed test leaves nothing for long."""

_TOKEN_BYTES: Final = 4
_CHUNK_BYTES: Final = 65_536
_LOOK_AGAIN_S: Final = 0.02
_GARBAGE: Final = b'\x00\xff\xfe{"type": "text"\x1b[31m}\r\xe2\x80\xa8not json at all \xc3\x28 {}'
_IDENTITY: Final = ("-c", "user.name=Test agent", "-c", "user.email=agent@agentcom.invalid")


class _Task(msgspec.Struct, frozen=True):
    prompt: str = ""


class ScenarioFailed(Exception):
    """The scenario has the agent report an error."""

    def __init__(self, failure: FailureClass, message: str) -> None:
        super().__init__(message)
        self.failure = failure
        self.message = message


class Agent:
    """One run: what it said and spent so far."""

    def __init__(
        self, worktree: Path, emit: Callable[[base.RuntimeEvent], None] | None = None
    ) -> None:
        """`emit` tells an event; by default it is printed as it is."""
        self._worktree = worktree
        self._emit = emit or print_event
        self._tools = 0
        self._output_bytes = 0

    def perform(self, step: scenario.Step) -> None:
        """Do one step; some of them never return.

        Raises:
            ScenarioFailed: it is to fail.
        """
        match step:
            case scenario.Write() | scenario.Shell() | scenario.Use() | scenario.Commit():
                self._act(step)
            case scenario.Loop(count):
                for _ in range(count):
                    self._tool("read hello.txt", lambda: True)
            case scenario.Say(text):
                self._output_bytes += len(text)
                self._emit(base.Text(text))
            case scenario.Sleep(duration_ms):
                self.pause(duration_ms / 1000)
            case scenario.WaitFor(path):
                while not (self._worktree / path).exists():
                    self.pause(_LOOK_AGAIN_S)
            case _:
                self._misbehave(step)

    def end(self, prompt: str) -> None:
        """Tell the bill and the end of the turn."""
        spent = max(1, self._output_bytes // _TOKEN_BYTES)
        self._emit(base.Usage(input=len(prompt) // _TOKEN_BYTES, output=spent))
        self._emit(base.TurnEnded(base.Stop.END_TURN))

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def may(self, title: str) -> bool:  # noqa: ARG002 - for agents that ask
        """Return whether a tool may be used."""
        return True

    def _act(self, step: scenario.Write | scenario.Shell | scenario.Use | scenario.Commit) -> None:
        match step:
            case scenario.Write():
                self._tool(f"write {step.path}", lambda: self._write(step))
            case scenario.Shell(argv):
                self._tool(" ".join(argv), lambda: self.run(*argv))
            case scenario.Use():
                self._tool(step.tool, lambda: use(step))
            case scenario.Commit(message):
                self._tool("commit", lambda: self._commit(message))
            case _:
                assert_never(step)

    def _misbehave(
        self,
        step: scenario.ExitWith
        | scenario.Fail
        | scenario.Hang
        | scenario.SpawnOrphan
        | scenario.Garbage
        | scenario.Huge,
    ) -> None:
        match step:
            case scenario.ExitWith(code):
                sys.exit(code)
            case scenario.Fail(kind, says):
                raise ScenarioFailed(FailureClass(kind), says or f"the scenario asked for {kind}")
            case scenario.Hang():
                while True:
                    self.pause(ORPHAN_LIFE_S)
            case scenario.SpawnOrphan():
                self._emit(base.Text(f"orphan {spawn_orphan()}"))
            case scenario.Garbage(size_bytes):
                repeated = _GARBAGE * (size_bytes // len(_GARBAGE) + 1)
                _print(repeated[:size_bytes] + b"\n")
            case scenario.Huge(size_bytes):
                for start in range(0, size_bytes, _CHUNK_BYTES):
                    _print(b"x" * min(_CHUNK_BYTES, size_bytes - start))
                _print(b"\n")
            case _:
                assert_never(step)

    def _tool(self, title: str, action: Callable[[], bool]) -> None:
        self._tools += 1
        name = f"tool-{self._tools}"
        self._emit(base.ToolStarted(name, title))
        self._emit(base.ToolEnded(name, ok=self.may(title) and action()))

    def _write(self, step: scenario.Write) -> bool:
        target = self._worktree / step.path
        if not target.resolve().is_relative_to(self._worktree.resolve()):
            raise ScenarioFailed(FailureClass.AGENT, f"{step.path} leads out of the worktree")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(step.text, encoding="utf-8")
        return True

    def _commit(self, message: str) -> bool:
        return self.run("git", "add", "--all") and self.run(
            "git", *_IDENTITY, "commit", "--quiet", "--allow-empty", "--message", message
        )

    def run(self, *argv: str) -> bool:
        """Run a command in the worktree and return whether it went well."""
        try:
            done = subprocess.run(  # noqa: S603 - the scenario is the test's own
                argv, cwd=self._worktree, stdout=sys.stderr, check=False
            )
        except OSError:
            return False
        return done.returncode == 0


def print_event(event: base.RuntimeEvent) -> None:
    """Print one event as a line."""
    print_line(msgspec.json.encode(event))


def print_line(line: bytes) -> None:
    """Print one line."""
    _print(line + b"\n")


def use(step: scenario.Use) -> bool:
    """Make a call at the hub as the agent of the attempt; its answer goes to standard error."""
    import urllib.error  # noqa: PLC0415 - a third of the start, and few runs use a tool
    import urllib.request  # noqa: PLC0415 - likewise

    base_url = os.environ[agent_cli.URL_VARIABLE].removesuffix("/mcp")
    headers = {
        "Authorization": f"Bearer {os.environ[agent_cli.TOKEN_VARIABLE]}",
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(  # noqa: S310 - the sidecar's own address
        f"{base_url}/api/v1/calls/{step.tool}", msgspec.json.encode(step.arguments), headers
    )
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 - likewise
            sys.stderr.write(answer.read().decode() + "\n")
    except urllib.error.HTTPError as error:
        sys.stderr.write(error.read().decode() + "\n")
        return False
    return True


def fail(failure: FailureClass, message: str) -> NoReturn:
    """Report an error as an agent does that cannot go on, and exit."""
    print_event(base.Failed(failure, message))
    print_event(base.TurnEnded(base.Stop.ERROR))
    sys.exit(1)


def spawn_orphan() -> int:
    """Leave a grandchild in a session of its own behind, and return its pid."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            os.execvp("sleep", ["sleep", str(ORPHAN_LIFE_S)])  # noqa: S606, S607 - meant so
        os._exit(0)
    os.wait()
    pid = int(os.read(reading, 32))
    os.close(reading)
    os.close(writing)
    return pid


def main(arguments: list[str]) -> None:
    """Perform what the prompt asks for."""
    parser = argparse.ArgumentParser(prog="agentcom-test-agent")
    parser.add_argument("--prompt", default="")
    parser.add_argument("--resume")
    parser.add_argument("--version", action="version", version="agentcom-test-agent 1.0.0")
    options = parser.parse_args(arguments)
    print_event(base.SessionStarted(options.resume or str(uuid.uuid4())))
    prompt = _prompt(options.prompt)
    agent = Agent(Path(os.environ.get("AGENTCOM_WORKTREE", ".")))
    try:
        for step in scenario.steps(prompt):
            agent.perform(step)
    except errors.InvalidInput as error:
        fail(FailureClass.AGENT, error.message)
    except ScenarioFailed as failed:
        fail(failed.failure, failed.message)
    agent.end(prompt)


def _prompt(given: str) -> str:
    path = os.environ.get("AGENTCOM_TASK_FILE")
    if scenario.scenario_name(given) is not None or path is None:
        return given
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=_Task).prompt or given
    except (OSError, msgspec.DecodeError) as error:
        fail(FailureClass.AGENT, f"cannot read the task file: {error}")


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
