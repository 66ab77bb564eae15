"""Twelve agents work while the hub gets another version, and everything is killed on the way.

An upgrade stops itself after each step that it has written down, so what is done to it is done
there, however fast or slow this computer is.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from agentcom.cli import background
from agentcom.store import sqlite_open
from tests.cli import upgrade_steps
from tests.cli.upgrade_steps import Upgrade
from tests.journeys import builds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000), pytest.mark.xdist_group("upgrade")]
AGENTS: Final = 6
"""On each of two machines."""
NEXT: Final = sqlite_open.newest_format() + 1
GOOD: Final = {f"store/migrations/{NEXT:04}_next.sql": "CREATE TABLE next (a INTEGER) STRICT;\n"}
WAIT_S: Final = 120.0
LEASE_MS: Final = 72_000
"""As long as the time in which machines come back after a start: a slow computer loses none."""


@dataclass
class Computer:
    """A home, and an environment of its own in which pip works."""

    folder: Path
    programs: Path
    variables: dict[str, str] = field(default_factory=dict)
    begun: "list[subprocess.Popen[str]]" = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / ".agentcom"

    def __call__(self, *words: str, code: int = 0) -> str:
        done = self.begin(*words)
        said, _ = done.communicate(timeout=300)
        assert done.returncode == code, said
        return said

    def begin(self, *words: str, limit: str = "", **more: str) -> "subprocess.Popen[str]":
        program = str(self.programs / "agentcom")
        argv = [program, *words]
        if limit:
            argv = ["sh", "-c", f'{limit}; exec "$0" "$@"', *argv]
        process = subprocess.Popen(
            argv,
            cwd=self.folder,
            env={
                "PATH": f"{self.programs}:/usr/bin:/bin",
                "AGENTCOM_HOME": str(self.home),
                "HOME": str(self.folder),
                "LOGNAME": "ada",
                "GIT_CONFIG_GLOBAL": os.environ["GIT_CONFIG_GLOBAL"],
                **self.variables,
                **more,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.begun.append(process)
        return process

    def ask(self, *words: str) -> Any:
        return json.loads(self(*words))

    def step(self) -> str:
        """Return which step of an upgrade is written down."""
        try:
            return str(json.loads((self.home / "upgrade/upgrade.json").read_bytes())["step"])
        except (OSError, ValueError):
            return ""

    def close(self) -> None:
        """End what is left, also where an upgrade broke off in the middle."""
        for process in self.begun:
            if process.poll() is None:
                process.kill()
                process.communicate()
        try:
            self.begin("down").communicate(timeout=60)
        except OSError:
            self.kill_hub()

    def kill_hub(self) -> None:
        found = background.running("hub", home=self.home)
        if found is not None:
            os.kill(found[0].pid, signal.SIGKILL)


def until(holds: Callable[[], bool], what: str = "") -> None:
    assert background.wait_for(holds, timeout_s=WAIT_S), what


class Fleet:
    """An office with the hub, and two machines with six agents each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.go = folder / "go"
        self.go.mkdir()
        self.office, self.ash, self.oak = (
            self._computer(name) for name in ("office", "ash", "oak")
        )
        (folder / "hook").mkdir()
        (folder / "hook" / "sitecustomize.py").write_text(upgrade_steps.HOOK)
        (self.office.home / "hub").mkdir(parents=True, mode=0o700)
        (self.office.home / "hub" / "hub.toml").write_text(f"lease_ttl_ms = {LEASE_MS}\n")
        self.office.variables |= {"AGENTCOM_HUB_PORT": "0", "PYTHONPATH": str(folder / "hook")}
        self.office("up", "--no-agents")
        port = self.office.ask("status", "--json", "url")["url"].rpartition(":")[2]
        self.office.variables["AGENTCOM_HUB_PORT"] = port
        self.origin = self._origin()
        for name, machine in (("ash", self.ash), ("oak", self.oak)):
            said = self.office("machine", "invite")
            code = said.partition("agentcom join '")[2].partition("'")[0]
            agents = [f"--agent={name}{n}=testagent:sandbox=off" for n in range(AGENTS)]
            machine("join", code, "--name", name, "--no-start", *agents)
            patient(machine.home / "machine" / "machine.json")
            machine("up")
        self.tasks: dict[str, str] = {}

    def begin(self, *names: str) -> None:
        """Submit a task for each name, and wait until an agent is in the middle of it."""
        for name in names:
            steps = [
                {"write": {"path": f"{name}.txt", "text": name}},
                {"shell": ["sh", "-c", f"echo {name} >> {self.folder}/ran"]},
                {"wait_for": str(self.go / name)},
                {"commit": name},
            ]
            prompt = "<<mock:edit>>\n```steps\n" + "\n".join(map(json.dumps, steps)) + "\n```\n"
            said = self.office("submit", "--repo", str(self.origin), "--title", name, prompt)
            self.tasks[name] = said.split()[0]
        for name in names:
            until(lambda name=name: self.ran(name) == 1, name)  # type: ignore[misc]  # bound now

    def ran(self, name: str) -> int:
        """Return how often an agent has begun a task."""
        ran = self.folder / "ran"
        return ran.read_text().split().count(name) if ran.exists() else 0

    def release(self, *names: str) -> None:
        for name in names:
            (self.go / name).touch()

    def all_done_once(self) -> None:
        """Each task has ended by its first attempt, which ran once, and its work is at origin."""
        for name, task in self.tasks.items():
            fields = "state,attempt,leases_lost"
            until(lambda task=task: self.show(task, "state")["state"] == "completed", name)  # type: ignore[misc]  # bound now
            wanted = {"state": "completed", "attempt": 1, "leases_lost": 0}
            assert self.show(task, fields) == wanted, name
            assert self.ran(name) == 1
            branches = git(self.origin, "branch", "--list", f"*{name}*").split()
            assert len(branches) == 1, branches

    def show(self, task: str, fields: str) -> dict[str, Any]:
        found: dict[str, Any] = self.office.ask("task", "show", task, "--json", fields)
        return found

    def close(self) -> None:
        for path in self.tasks:
            self.release(path)
        for computer in (self.ash, self.oak, self.office):
            computer.close()

    def _computer(self, name: str) -> Computer:
        programs = builds.installed(self.folder / f"env-{name}", "1.0.0")
        place = self.folder / name
        place.mkdir()
        return Computer(place, programs)

    def _origin(self) -> Path:
        origin, work = self.folder / "api.git", self.folder / "seed"
        git(self.folder, "init", "-q", "--bare", "-b", "main", str(origin))
        git(self.folder, "clone", "-q", str(origin), str(work))
        git(work, "checkout", "-q", "-B", "main")
        git(work, "commit", "-q", "--allow-empty", "-m", "Begin")
        git(work, "push", "-q", "origin", "main")
        return origin


def patient(settings: Path) -> None:
    """Let agents be silent for as long as all this takes: they wait for a word of the test."""
    found = json.loads(settings.read_bytes())
    found["settings"] = {**found.get("settings", {}), "between_events_ms": 3_600_000}
    settings.write_text(json.dumps(found))


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("wheels")
    hub = builds.ROOT / "src/agentcom/transport/http_hub.py"
    mute = hub.read_text().replace(
        "return call.hall.status()", 'raise RuntimeError("this version cannot say how it is")'
    )
    opened = "self._incarnation = await services.store.open()"
    app = (builds.ROOT / "src/agentcom/app.py").read_text()
    picky = f'{opened}\n        assert "agentcom-doctor" in str(self._config.home)'
    assert opened in app
    assert mute != hub.read_text()
    made = {
        "broken": ("1.1.1", {**GOOD, "app.py": app.replace(opened, picky)}),
        "mute": ("1.1.2", {**GOOD, "transport/http_hub.py": mute}),
        "1.2.0": ("1.2.0", GOOD),
        "1.3.0": ("1.3.0", GOOD),
        "1.4.0": ("1.4.0", GOOD),
    }
    return {name: str(builds.wheel(folder / name, *what)) for name, what in made.items()}


def format_of(fleet: Fleet) -> int:
    return sqlite_open.format_of(fleet.office.home / "hub" / "hub.sqlite")


def begun(office: Computer, wheel: str, **variables: str) -> Upgrade:
    """Begin an upgrade that stops itself after each step."""
    process = office.begin("upgrade", "--from", wheel, STOP_AT_STEPS="1", **variables)
    return Upgrade(process, office.step)


def resumed(office: Computer, code: int = 0) -> str:
    """Resume, once what the killed one had begun has ended."""
    said: list[tuple[int, str]] = []

    def is_over() -> bool:
        try:
            process = office.begin("upgrade", "--resume")
        except OSError:  # pip has not put the program there yet
            return False
        text, _ = process.communicate(timeout=300)
        said.append((process.returncode, text))
        return "is on its way" not in text and "Traceback" not in text

    until(is_over, "resume")
    assert said[-1][0] == code, said[-1]
    return said[-1][1]


def test_twelve_agents_work_through_every_kind_of_upgrade(
    fleet: Fleet, wheels: dict[str, str]
) -> None:
    office = fleet.office
    names = [f"t{n:02}" for n in range(2 * AGENTS)]
    fleet.begin(*names)
    assert format_of(fleet) == NEXT - 1

    versions_that_do_not_work(fleet, wheels, names)
    killed_as_it_goes_back(office, wheels)
    without_room(office, wheels["1.2.0"])
    assert format_of(fleet) == NEXT - 1
    two_at_once(office, wheels["1.2.0"])
    fleet.release(names[2], names[3])
    assert "1.2.0" in office("status")
    assert format_of(fleet) == NEXT
    killed_as_it_goes_on(office, wheels)

    # All machines are of the old version still; nothing was lost, and nothing ran twice.
    assert fleet.ash("--version").split()[-1] == "1.0.0"
    fleet.release(*names)
    fleet.all_done_once()
    for machine in (fleet.ash, fleet.oak):
        assert "1.4.0" in machine("upgrade", "--from", wheels["1.4.0"])
    fleet.begin("after")
    fleet.release("after")
    fleet.all_done_once()


def versions_that_do_not_work(fleet: Fleet, wheels: dict[str, str], names: list[str]) -> None:
    office = fleet.office
    # A version that does not start, though it has brought the store to its format.
    said = office("upgrade", "--from", wheels["broken"], code=1)
    assert "version 1.0.0 is installed again" in said
    assert "1.0.0" in office("status")
    assert format_of(fleet) == NEXT - 1

    # One that starts, takes reports in, and then fails: what it took in comes again.
    upgrading = begun(office, wheels["mute"])
    upgrading.to("starting")
    fleet.release(names[0], names[1])
    code, said = upgrading.to_its_end()
    assert code == 1, said
    assert "1.0.0" in office("status")
    assert format_of(fleet) == NEXT - 1


def killed_as_it_goes_back(office: Computer, wheels: dict[str, str]) -> None:
    # The upgrader is killed as it takes a version back, and as it begins.
    for step in ("undoing", "restoring"):
        begun(office, wheels["broken"]).killed_in(step)
        resumed(office, code=1 if step == "undoing" else 0)
        assert "1.0.0" in office("status"), step
    begun(office, wheels["1.2.0"]).killed_in("installing")
    assert "installed again" in resumed(office, code=1)
    assert "1.0.0" in office("status")


def without_room(office: Computer, wheel: str) -> None:
    # There is no room for what pip writes: nothing changes, or it is put right later.
    process = office.begin("upgrade", "--from", wheel, limit="ulimit -f 100")
    process.communicate(timeout=300)
    assert process.returncode != 0
    if office.step():
        resumed(office, code=1)
    assert "1.0.0" in office("status")


def two_at_once(office: Computer, wheel: str) -> None:
    # Two at once: one of them is refused. Then it is killed after the old hub has ended.
    first = begun(office, wheel)
    first.to("installing")
    assert "on its way" in office("upgrade", "--from", wheel, code=5)
    first.to("stopping")
    first.go_on()
    until(lambda: background.running("hub", home=office.home) is None)
    first.kill()
    resumed(office)


def killed_as_it_goes_on(office: Computer, wheels: dict[str, str]) -> None:
    # Killed while the new hub starts; and the hub itself is killed before, and as it starts.
    begun(office, wheels["1.3.0"]).killed_in("starting")
    resumed(office)
    assert "1.3.0" in office("status")
    killed = office.folder / "killed"
    upgrading = begun(office, wheels["1.4.0"], KILL_HUB=str(killed))
    upgrading.to("installing")
    office.kill_hub()
    code, said = upgrading.to_its_end()
    assert (code, killed.exists()) == (0, True), said
    assert "1.4.0" in office("status")
