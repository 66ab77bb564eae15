"""Faults planted for real: `agentcom doctor` finds and names each, and its fix mends it."""

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from agentcom import app
from agentcom.cli import api, background, context, findings, looks_fleet, upgrade_plan
from agentcom.hub.clock import SystemClock
from agentcom.model import refs, token_text
from agentcom.model.identity import CredentialKind
from agentcom.sidecar.config import AgentConfig
from agentcom.sidecar.confines import Confines, Sandbox
from agentcom.store import sqlite_open
from agentcom.store.sqlite import SqliteStore
from agentcom.testing.waiting import PATIENCE_S
from tests.cli import patient
from tests.cli.patient import DEAD_PID, GOOD, Patient
from tests.cli.terminal import Shell

pytestmark = pytest.mark.xdist_group("cli-doctor")
NOW: Final = time.time()


@pytest.fixture
def ill(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Patient]:
    """A computer with an empty home, no agent programs, and nothing that runs."""
    home.chmod(0o700)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("AGENTCOM_HUB_PORT", "0")
    made = Patient(home, tmp_path)
    yield made
    if (home / "run").exists():
        made.do("agentcom down")


class Case(NamedTuple):
    """A fault: what is found, how it comes about, and how it is mended if no command can."""

    finding: str
    plant: Callable[[Patient, pytest.MonkeyPatch], object]
    mend: Callable[[Patient, pytest.MonkeyPatch], object] | None = None


CASES: Final[list[Case]] = []


def fault(
    finding: str, mend: Callable[[Patient, pytest.MonkeyPatch], object] | None = None
) -> Callable[[Callable[[Patient, pytest.MonkeyPatch], object]], object]:
    """Add a planted fault to the table; without `mend`, the fix is a command, and is run."""

    def add(plant: Callable[[Patient, pytest.MonkeyPatch], object]) -> object:
        CASES.append(Case(finding, plant, mend))
        return plant

    return add


def undo(_ill: Patient, patch: pytest.MonkeyPatch) -> None:
    patch.undo()
    patch.setenv("AGENTCOM_HOME", str(_ill.home))
    patch.setenv("HOME", str(_ill.folder))


# This computer ------------------------------------------------------------------------------------


@fault("python.old", mend=undo)
def _old_python(_ill: Patient, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sys, "version_info", (3, 10, 9, "final", 0))


@fault("git.missing", mend=undo)
def _no_git(ill: Patient, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("PATH", str(ill.folder))


@fault("git.old", mend=undo)
def _old_git(ill: Patient, patch: pytest.MonkeyPatch) -> None:
    folder = patient.program(ill.folder / "old", "git", "git version 2.20.1")
    patch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@fault("home.open")
def _open_home(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    ill.home.chmod(0o755)


@fault("home.not_writable")
def _file_in_the_way(ill: Patient, patch: pytest.MonkeyPatch) -> None:
    (ill.folder / "taken").write_text("")
    patch.setenv("AGENTCOM_HOME", str(ill.folder / "taken"))


@fault("home.owner", mend=lambda ill, _patch: os.chown(ill.home, os.geteuid(), -1))
def _other_owner(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(ill.home, 12345, -1)


@fault("disk.low", mend=undo)
def _full_disk(_ill: Patient, patch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=500 << 20)
    patch.setattr(shutil, "disk_usage", lambda _path: usage)


@fault("clock.wrong", mend=undo)
def _clock_of_1970(_ill: Patient, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(time, "gmtime", lambda *_: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))


@fault("secret.readable")
def _readable_token(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    ill.knows("http://127.0.0.1:1")
    (ill.home / "context.json").chmod(0o644)


@fault("context.damaged")
def _damaged_context(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    context.write_private(ill.home / "context.json", "{hubs:")


@fault("upgrade.interrupted")
def _interrupted_upgrade(_ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    step = upgrade_plan.Step.RESTORING
    upgrade_plan.note(upgrade_plan.Plan(step=step, old="1.0.0", names=(), service=False, wheels=()))


# The hub's data -----------------------------------------------------------------------------------


def make_store(ill: Patient) -> Path:
    """Make the data of a hub, as one that has stopped left them."""
    path = ill.home / "hub" / app.STORE_FILE

    async def make() -> None:
        store = SqliteStore(path)
        await store.open()
        await store.close()

    path.parent.mkdir(mode=0o700)
    asyncio.run(make())
    return path


def take_copy(ill: Patient) -> Path:
    copies = app.open_copies(ill.home / "hub" / "backups")
    made = copies.take(ill.home / "hub", SystemClock().now)
    return ill.home / "hub" / "backups" / "copies" / made.name


def written(path: Path, sql: str) -> None:
    db = sqlite_open.connect(path)
    db.execute(sql)
    db.close()


@fault("config.invalid", mend=lambda ill, _patch: (ill.home / "hub" / "hub.toml").unlink())
def _wrong_setting(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    (ill.home / "hub").mkdir()
    (ill.home / "hub" / "hub.toml").write_text("prot = 7420\n")


@fault(
    "store.newer",
    mend=lambda ill, _patch: written(
        ill.home / "hub" / app.STORE_FILE,
        f"PRAGMA user_version={sqlite_open.newest_format()}",
    ),
)
def _newer_store(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    written(make_store(ill), "PRAGMA user_version=999")


@fault("store.damaged")
def _damaged_store(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    path = make_store(ill)
    take_copy(ill)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 4_096)


@fault("backup.stale")
def _stale_backup(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    written(make_store(ill), "UPDATE meta SET value = value - 864000 WHERE name = 'incarnation'")


@fault("backup.damaged")
def _damaged_backup(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    make_store(ill)
    os.truncate(take_copy(ill) / app.STORE_FILE, 4_096)


@fault("hub.ended")
def _hub_has_ended(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    record = {"pid": DEAD_PID, "start": "1", "url": "http://127.0.0.1:1"}
    context.write_private(ill.home / "run" / "hub.json", json.dumps(record))
    context.write_private(ill.home / "machine" / "note", "")  # `up` makes the rest


def of_this_process(ill: Patient, name: str, lock: Path) -> None:
    """Record this very process, as if it had started before the program was installed."""

    record = {"pid": os.getpid(), "start": background.start_time(os.getpid())}
    context.write_private(ill.home / "run" / f"{name}.json", json.dumps(record))
    context.write_private(lock, f"{os.getpid()}\n")
    os.utime(lock, (0, 0))


def forget_processes(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(ill.home / "run")


@fault("hub.old_program", mend=forget_processes)
def _old_hub(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    of_this_process(ill, "hub", ill.home / "hub" / "hub.lock")


@fault("sidecar.old_program", mend=forget_processes)
def _old_sidecar(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    of_this_process(ill, "sidecar", ill.home / "machine" / "lock")


# Agents and what they left ------------------------------------------------------------------------


def install_claude(ill: Patient, patch: pytest.MonkeyPatch) -> None:
    folder = patient.program(ill.folder / "agents", "claude", "2.1.0 (Claude Code)")
    patch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def log_in(_ill: Patient, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("ANTHROPIC_API_KEY", "k")


def install_and_log_in(ill: Patient, patch: pytest.MonkeyPatch) -> None:
    install_claude(ill, patch)
    log_in(ill, patch)


@fault("agent.none", mend=install_and_log_in)
def _no_agent(_ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    """An empty computer has none."""


@fault("agent.not_logged_in", mend=log_in)
def _not_logged_in(ill: Patient, patch: pytest.MonkeyPatch) -> None:
    install_claude(ill, patch)


@fault("agent.unready", mend=lambda ill, _patch: ill.is_machine("http://127.0.0.1:1", "m1"))
def _broken_agent(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    agent = AgentConfig(name="ann", runtime="claude", settings={"binary": "/nowhere/claude"})  # type: ignore[arg-type]  # any name
    ill.is_machine("http://127.0.0.1:1", "m1", agent)


@fault("sandbox.switched_off")
def _no_sandbox(ill: Patient, patch: pytest.MonkeyPatch) -> None:
    install_claude(ill, patch)
    log_in(ill, patch)
    open_one = Confines(sandbox=Sandbox.OFF)
    agent = AgentConfig(name="ann", runtime="claude", capabilities=("code",), confines=open_one)  # type: ignore[arg-type]  # any name
    ill.is_machine("http://127.0.0.1:1", "m1", agent)


@fault("report.unsent", mend=lambda ill, _patch: shutil.rmtree(ill.home / "machine" / "outbox"))
def _unsent_report(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    held = ill.is_machine("http://127.0.0.1:1", "m1").outbox / "held"
    context.write_private(held / "t1.7.1.json", "{}")
    os.utime(held / "t1.7.1.json", (NOW - 3_600, NOW - 3_600))


@fault("rescue.unpushed")
def _rescued(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    cache = ill.is_machine("http://127.0.0.1:1", "m1").repositories / "caches/x/repo.git"
    origin = ill.folder / "origin.git"
    for place in (cache, origin):
        git(ill.folder, "init", "-q", "--bare", str(place))
    (cache.parent / "address").write_text(f"{origin}\n")
    empty = git(cache, "hash-object", "-w", "-t", "tree", os.devnull)
    commit = git(cache, "commit-tree", empty, "-m", "half done")
    git(cache, "update-ref", f"{refs.RESCUES}/t1/7.1", commit)


@fault("worktree.left", mend=lambda ill, _patch: shutil.rmtree(ill.home / "machine/repositories"))
def _left_worktree(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    state = ill.is_machine("http://127.0.0.1:1", "m1").repositories / "state" / "t1"
    context.write_private(state / "worktree.json", "{}")
    os.utime(state / "worktree.json", (0, 0))


@fault("sidecar.not_running", mend=lambda ill, _patch: shutil.rmtree(ill.home / "machine"))
def _no_sidecar(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    ill.is_machine("http://127.0.0.1:1", "m1")


# The way to the hub -------------------------------------------------------------------------------


def forget_hubs(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    (ill.home / "context.json").unlink()


@fault("hub.unreachable", mend=forget_hubs)
def _nobody_there(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    ill.knows("http://127.0.0.1:1")


@fault("token.malformed", mend=forget_hubs)
def _half_a_token(ill: Patient, _patch: pytest.MonkeyPatch) -> None:
    context.write_private(
        ill.home / "context.json",
        json.dumps({"hubs": [{"url": "http://127.0.0.1:1", "token": "acm usr"}]}),
    )


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.finding)
def test_a_planted_fault_is_found_and_its_fix_mends_it(
    case: Case, ill: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.plant(ill, monkeypatch)

    fix = ill.fix_of(case.finding)

    if case.mend is not None:
        case.mend(ill, monkeypatch)
    else:
        ill.do(fix)
    assert not ill.has(case.finding)


@pytest.mark.parametrize(
    ("answers", "finding"),
    [
        ({"/": (200, b"<html>a shop</html>")}, "hub.other_program"),
        ({"/readyz": (503, {"code": "unavailable"})}, "hub.not_ready"),
    ],
)
def test_what_answers_in_place_of_the_hub_is_named(
    ill: Patient, answers: Mapping[str, tuple[int, object]], finding: str
) -> None:
    with patient.server(answers) as url:
        ill.knows(url)

        fix = ill.fix_of(finding)

    assert "agentcom" in fix


@pytest.mark.parametrize(
    ("name", "days", "trusted", "finding"),
    [
        ("localhost", -1, True, "tls.expired"),
        ("hub.example", 2, True, "tls.name"),
        ("localhost", 2, False, "tls.unknown"),
        ("localhost", 2, True, None),
    ],
)
def test_what_is_wrong_with_a_certificate_is_told(
    ill: Patient,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    days: int,
    trusted: bool,
    finding: str | None,
) -> None:
    authority, chain = patient.certificate(ill.folder / "tls", name=name, days=days)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    with patient.server(GOOD, patient.serving(chain)) as url:
        ill.knows(url)

        found = {row["id"]: row["fix"] for row in ill.rows()}

        assert [one for one in found if str(one).startswith("tls.")] == ([finding] * bool(finding))
        if finding == "tls.unknown":  # the command pins what is shown now
            shown = found[finding].rpartition(" ")[2]
            ill.knows(url, fingerprint=shown)
            assert not ill.has(finding)
            ill.knows(url, fingerprint="0" * 64)
            assert ill.has("tls.pin")


# With a hub that runs -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A fleet in which all is well."""
    folder = tmp_path_factory.mktemp("well")
    shell = Shell(folder / "home", folder)
    shell("up", "--port", "0", "--agent", "tester=testagent:sandbox=off")
    yield shell
    shell("down", ok=False)


@pytest.fixture
def fleet(well: Shell, monkeypatch: pytest.MonkeyPatch) -> Patient:
    monkeypatch.setenv("AGENTCOM_HOME", str(well.home))
    return Patient(well.home, well.folder)


def test_a_healthy_fleet_raises_no_alarm(fleet: Patient) -> None:
    assert fleet.rows() == []


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        (["machine", "drain", "{machine}"], "machine.drained"),
        (["agent", "pause", "tester"], "agent.paused"),
        (["pause", "--project", "default"], "fleet.paused"),
        (["submit", "--no-repo", "--needs", "gpu", "--command", "--", "true"], "task.nobody"),
    ],
)
def test_what_stops_a_fleet_is_named_and_mended(
    fleet: Patient, words: list[str], finding: str
) -> None:
    with contextlib.closing(api.Hub(context.load())) as hub:
        (machine,) = hub.machines()
    fleet.do(shlex.join(["agentcom", *(word.format(machine=machine["name"]) for word in words)]))

    fix = fleet.fix_of(finding).replace("NAME=RUNTIME", "big=command")
    fleet.do(fix)

    assert clears(fleet, finding)


def clears(fleet: Patient, finding: str) -> bool:

    return background.wait_for(lambda: not fleet.has(finding), timeout_s=PATIENCE_S)


def test_tokens_that_do_not_work_are_told_apart(
    fleet: Patient, well: Shell, ill: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCOM_HOME", str(fleet.home))
    known = context.load()
    token = well("token", "create").out.strip()
    monkeypatch.setenv("AGENTCOM_HOME", str(ill.home))

    ill.knows(known.url, token)
    assert not ill.has("token.over")
    parsed = token_text.parse(token)
    assert parsed is not None
    well("token", "revoke", parsed.id)
    assert ill.has("token.over")

    ill.knows(known.url, token_text.compose(CredentialKind.USER, "0" * 8, "0" * 43))
    assert "join" in ill.fix_of("token.unknown")
    ill.knows(known.url, token[:-4])
    assert ill.has("token.malformed")


def test_a_clock_that_is_off_and_a_machine_that_was_removed(
    fleet: Patient, ill: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCOM_HOME", str(fleet.home))
    known = context.load()
    monkeypatch.setenv("AGENTCOM_HOME", str(ill.home))
    ill.knows(known.url, known.token)
    ill.is_machine(known.url, "01badmachine0000000000000a")
    ill.do(ill.fix_of("machine.removed"))
    assert not ill.has("machine.removed")

    real = time.time
    monkeypatch.setattr("agentcom.cli.looks_hub.time.time", lambda: real() + 3_600)
    assert "s ahead of the hub" in str(ill.rows())


def test_a_proxy_that_lets_no_websockets_through(ill: Patient) -> None:
    who = {"user": "ada", "role": "admin", "project": "default", "credential": "c"}

    token = token_text.compose(CredentialKind.USER, "0" * 8, "0" * 43)
    answers = {**GOOD, "/api/v1/whoami": (200, {**who, "actions": []})}
    with patient.server(answers) as url:
        ill.knows(url, token)

        assert "NO_PROXY" in ill.fix_of("websocket.blocked")


def test_a_repository_that_cannot_be_reached_or_pushed_to(tmp_path: Path) -> None:
    origin, work = tmp_path / "origin.git", tmp_path / "work"
    git(tmp_path, "init", "-q", "--bare", str(origin))
    git(tmp_path, "init", "-q", str(work))
    assert looks_fleet.repository(work).state == findings.NONE
    git(work, "remote", "add", "origin", str(origin))
    git(work, "commit", "-q", "--allow-empty", "-m", "one")
    assert looks_fleet.repository(work).state == findings.OK

    hook = origin / "hooks" / "pre-receive"
    git(work, "remote", "set-url", "--push", "origin", str(tmp_path / "nowhere"))
    assert looks_fleet.repository(work).id == "repo.no_push"
    origin.rename(tmp_path / "gone.git")
    assert looks_fleet.repository(work).id == "repo.unreachable"
    assert not hook.exists()


def test_fix_mends_what_loses_nothing(ill: Patient) -> None:
    ill.home.chmod(0o755)
    ill.knows("http://127.0.0.1:1")
    (ill.home / "context.json").chmod(0o644)

    ids = {row["id"] for row in ill.rows(mend=True)}

    assert ids.isdisjoint({"home.open", "secret.readable"})
    assert ill.home.stat().st_mode & 0o777 == 0o700


def test_it_says_so_where_there_is_no_hub(ill: Patient) -> None:
    assert "agentcom up" in ill.fix_of("hub.unknown")


def test_every_finding_is_on_its_page() -> None:
    page = Path(__file__).parents[2].joinpath("docs/guides/doctor.md").read_text()

    missing = [name for name in findings.MEANINGS if f"`{name}`" not in page]
    assert missing == []
