"""Where journeys are played: computers with a terminal each, and a page that tells what was shown.

A journey is a plain script. `computer("agentcom ...")` runs the command as a person would, in a
shell on a terminal, and puts it on the page with all that it showed; `stage.say` puts a paragraph
there; `until` and `ask` look behind the scene, and are not on the page.
"""

import contextlib
import difflib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from agentcom.cli import background
from agentcom.sidecar import survivors
from tests.journeys.transcript import Shown, Transcript

PAGES: Final = Path(__file__).parents[2] / "docs" / "journeys"
COMMAND_S: Final = 60.0
"""Bounds every command; most take a tenth of a second."""
ROWS: Final = 50
COLUMNS: Final = 200


class Computer:
    """One person's computer: a home, a folder to be in, and a terminal."""

    def __init__(self, stage: "Stage", name: str, person: str) -> None:
        self.name = name
        self.folder = stage.folder / name
        self.folder.mkdir()
        self.program = Path(sys.executable).parent
        """The folder with the `agentcom` that is installed here."""
        self.variables = {"AGENTCOM_HUB_PORT": "0"}
        self._stage = stage
        self._person = person
        self._at = self.folder

    @property
    def home(self) -> Path:
        """Where AgentCom lives here."""
        return self.folder / ".agentcom"

    def __call__(self, command: str, *, code: int = 0, shown: str | None = None) -> str:
        """Run a command, put it on the page (as `shown`), and return what it showed."""
        return self.begin(command, shown=shown).ends(code)

    def begin(self, command: str, *, shown: str | None = None) -> "Running":
        """Start a command in a terminal of its own."""
        running = Running(self, self._stage.transcript, command, shown or command)
        self._stage.running.append(running)
        return running

    def enter(self, folder: str) -> None:
        """Go into a folder, as `cd` does."""
        self._at = (self._at / folder).resolve()
        self._stage.transcript.parts.append(Shown(self.name, f"cd {folder}", "", 0))

    def ask(self, command: str) -> Any:
        """Return what a command with `--json` says, behind the scene; None if it fails."""
        done = self.quietly(command)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def quietly(self, command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command behind the scene."""
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self._at,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
        )

    def until(self, command: str, **wanted: object) -> None:
        """Wait until a command with `--json` says so."""
        self.until_so(f"{command} --json {','.join(wanted)}", lambda said: said == wanted)

    def until_so(self, command: str, holds: Callable[[Any], bool]) -> None:
        """Wait until what a command with `--json` says is so."""
        seen: list[Any] = []

        def asked() -> bool:
            seen.append(self.ask(command))
            return seen[-1] is not None and holds(seen[-1])

        assert background.wait_for(asked, timeout_s=COMMAND_S), (command, seen[-1])

    def last_task(self) -> str:
        """Return the id of what was submitted last from here."""
        return (self.home / "last-task").read_text("utf-8").strip()

    def loses_power(self) -> None:
        """Kill every process of AgentCom and of its agents here, as a dead battery does."""
        for name in background_names(self.home):
            found = background.running(name, home=self.home)
            if found is not None:
                os.kill(found[0].pid, signal.SIGKILL)
        for place in sorted(self.home.glob("machine/attempts/*/")):
            survivors.kill_survivors(place.name, place)

    def same_port(self) -> None:
        """Let the hub of this computer listen where it listens now, also when it starts again."""
        found = background.running("hub", home=self.home)
        assert found is not None
        self.variables["AGENTCOM_HUB_PORT"] = found[1]["url"].rpartition(":")[2]

    def environment(self) -> dict[str, str]:
        """Return the variables of a terminal here."""
        return {
            **os.environ,
            "PATH": os.pathsep.join(
                (str(self._stage.tools), str(self.program), os.environ["PATH"])
            ),
            "HOME": str(self.folder),
            "AGENTCOM_HOME": str(self.home),
            "LOGNAME": self._person,
            "USER": self._person,
            "NO_COLOR": "1",
            "GIT_PAGER": "cat",
            "COLUMNS": str(COLUMNS),
            "TERM": "dumb",
            **self.variables,
        }

    @property
    def at(self) -> Path:
        """The folder that one is in."""
        return self._at


class Running:
    """A command in a terminal."""

    def __init__(
        self, computer: Computer, transcript: Transcript, command: str, shown: str
    ) -> None:
        self._computer = computer
        self._transcript = transcript
        self._shown = shown
        # What is redrawn in place would be on the page as often as it was drawn.
        self._lines, writing = os.pipe() if "watch" in command else _terminal()
        self._process = subprocess.Popen(
            ["sh", "-c", command],
            cwd=computer.at,
            env=computer.environment(),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
        )
        os.close(writing)

    def kill(self) -> None:
        """End it, if a journey that failed has left it."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            os.close(self._lines)

    def ends(self, code: int = 0) -> str:
        """Wait for the end, put it on the page, and return what was shown."""
        text = _all_of(self._lines).decode().replace("\r\n", "\n")
        ended = self._process.wait()
        assert ended == code, f"{self._computer.name}$ {self._shown}: exit {ended}\n{text}"
        self._transcript.parts.append(Shown(self._computer.name, self._shown, text, code))
        return text


class Stage:
    """The computers of one journey, and its page."""

    def __init__(self, folder: Path, *, publishing: bool) -> None:
        self.folder = folder.resolve()
        self.tools = self.folder / "tools"
        """Programs that are as they are on the stage, whatever this computer has."""
        self.tools.mkdir()
        # No sandbox works here: the stage's agents wait for files that are elsewhere.
        (self.tools / "bwrap").write_text("#!/bin/sh\nexit 1\n")
        (self.tools / "bwrap").chmod(0o755)
        self.transcript = Transcript(folders={self.folder: "/srv"})
        self.running: list[Running] = []
        self._publishing = publishing
        self._computers: list[Computer] = []

    def computer(self, name: str, *, person: str = "ada") -> Computer:
        """Put a computer on the stage."""
        made = Computer(self, name, person)
        self.transcript.folders[made.folder] = "~"
        self._computers.append(made)
        return made

    def origin(self, name: str, files: Mapping[str, str | bytes]) -> str:
        """Make a project on the git server, behind the scene, and return its address."""
        server, work = self.folder / "git" / f"{name}.git", self.folder / "seed" / name
        work.mkdir(parents=True)
        git(work, "init", "-q", "--bare", "-b", "main", str(server))
        git(work, "clone", "-q", str(server), ".")
        git(work, "checkout", "-q", "-B", "main")
        for path, content in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_bytes(content.encode() if isinstance(content, str) else content)
        git(work, "add", "--all")
        git(work, "commit", "-q", "-m", "Begin")
        git(work, "push", "-q", "origin", "main")
        return str(server)

    def say(self, text: str) -> None:
        """Put paragraphs on the page."""
        paragraphs = text.strip().split("\n\n")
        self.transcript.parts += [" ".join(paragraph.split()) for paragraph in paragraphs]

    def learn(self, computer: Computer) -> None:
        """Ask the hub for the ids of all that there is, so that the page can name them."""
        for listing, name in (("task ls", "task"), ("machine ls", "mach"), ("token ls", "token-")):
            rows = computer.ask(f"agentcom {listing} --json id,created_at") or []
            ordered = sorted(rows, key=lambda row: (row["created_at"] or 0, row["id"]))
            for at, row in enumerate(ordered, start=1):
                self.transcript.knows(row["id"], f"{name}{at:02}")

    def publish(self, name: str, title: str) -> None:
        """Compare the page with the published one, or write it."""
        page = PAGES / f"{name}.md"
        new = self.transcript.render(title)
        if self._publishing:
            page.write_text(new, "utf-8")
        old = page.read_text("utf-8") if page.exists() else ""
        differ = "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm=""))
        if differ:
            pytest.fail(f"{page.name} is not what happens now; run: make journeys\n{differ}")

    def close(self) -> None:
        """End what still runs, in whatever state it is."""
        for running in self.running:
            running.kill()
        for computer in self._computers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                computer.quietly("agentcom down")
            computer.loses_power()


def git(folder: Path, *words: str) -> str:
    """Return what git says in a folder, behind the scene."""
    done = subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def background_names(home: Path) -> list[str]:
    """Return the names of all that was started from a home."""
    return sorted(path.stem for path in home.glob("run/*.json"))


def _terminal() -> tuple[int, int]:
    reading, writing = pty.openpty()
    termios.tcsetwinsize(writing, (ROWS, COLUMNS))
    return reading, writing


def _all_of(reading: int) -> bytes:
    """Return all that is said until nobody can say more."""
    deadline = time.monotonic() + COMMAND_S
    said = b""
    while select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            chunk = os.read(reading, 65_536)
        except OSError:  # Linux tells the end of a terminal so
            break
        if not chunk:
            break
        said += chunk
    else:
        raise AssertionError(f"no end after {COMMAND_S} s: {said.decode()}")
    os.close(reading)
    return said


def joining(said: str) -> str:
    """Return the address with the code from the line that an invitation prints."""
    return said.partition("agentcom join '")[2].partition("'")[0]
