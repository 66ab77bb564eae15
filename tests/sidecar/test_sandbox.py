"""Attacks from inside a sandbox: each is refused, and nothing of it is left."""

import asyncio
import functools
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentcom.model.failure import FailureClass
from agentcom.sidecar import boxes, process, sandbox, survivors
from agentcom.sidecar.boxes import LABEL, Boxes
from agentcom.sidecar.config import AgentConfig
from agentcom.sidecar.confines import Confines, Network, Sandbox
from agentcom.sidecar.runtime import base
from agentcom.testing.waiting import PATIENCE_S
from tests.sidecar.reading import first_line
from tests.sidecar.test_guarding import HIDDEN, ended, limits, marked

found = functools.cache(sandbox.probe)
boxed_here = pytest.mark.skipif(not found().program, reason=f"no sandbox: {found().problem}")

ATTACK = """
import ctypes, json, os, signal, socket, sys
told = json.load(open(sys.argv[1]))
result = {}
def attempt(name, action):
    try:
        result[name] = f"done: {action()!r}"
    except (OSError, ValueError) as error:
        result[name] = "refused"
def written(path):
    with open(path, "a") as file:
        file.write("x")
def mounted():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/usr", None, 32 | 4096, None):  # a writable view of the system
        raise OSError(ctypes.get_errno(), "mount")
def traced(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0):
        raise OSError(ctypes.get_errno(), "ptrace")
def linked(path):
    os.symlink(path, "way-out")
    try:
        return open("way-out").read()
    finally:
        os.unlink("way-out")
def asked(port):
    with socket.create_connection(("127.0.0.1", port), 5):
        return "connected"
def talked(path):
    with socket.socket(socket.AF_UNIX) as plug:
        plug.connect(path)
for path in told["secrets"]:
    attempt("read " + path, lambda: open(path).read())
    attempt("link " + path, lambda: linked(path))
for path in told["places"]:
    attempt("write " + path, lambda: written(path))
for pid in told["pids"]:
    attempt("signal", lambda: os.kill(pid, 0))
    attempt("trace", lambda: traced(pid))
attempt("mount", mounted)
attempt("socket", lambda: talked(told["socket"]))
attempt("network", lambda: asked(told["port"]))
attempt("own folder", lambda: written("mine.txt"))
attempt("own home", lambda: written(os.path.expanduser("~/kept.txt")))
attempt("login", lambda: written(os.path.expanduser("~/.codex/auth.json")))
attempt("temporary", lambda: written("/tmp/kept.txt"))
attempt("borrowed", lambda: open(told["borrowed"]).read())
result["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
result["environment"] = sorted(os.environ)
print(json.dumps(result))
"""


@dataclass
class Site:
    """A machine's home with things that an agent should not see."""

    root: Path
    operator: Path
    worktree: Path
    folder: Path
    job: base.Job

    def boxed(self, *argv: str, confines: Confines | None = None) -> base.Launch:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.operator)}
        launch = base.Launch(argv=argv, environment=environment, cwd=str(self.worktree))
        return Boxes(self.root).attempt(
            launch,
            self.job,
            confines or Confines(),
            runtime="codex",
            objects=self.root / "repositories/caches/a/repo.git/objects",
            temporary=self.folder / "tmp",
        )


def put(path: Path, text: str = "secret") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    root, operator = tmp_path / "machine", tmp_path / "operator"
    worktree, folder = root / "repositories/worktrees/t1", root / "attempts/t1.7.1"
    for path in (worktree, folder, root / "agents/ada", operator / ".codex"):
        path.mkdir(parents=True)
    job = base.Job(
        task="t1",
        attempt=f"t1-{tmp_path.name}-{os.getpid()}",
        prompt="",
        task_file=str(put(folder / "task.json", "{}")),
        notices=str(folder / "notices.txt"),
        worktree=str(worktree),
        home=str(root / "agents/ada"),
    )
    yield Site(root, operator, worktree, folder, job)
    process.kill_survivors(job.attempt, folder)


async def run(site: Site, launch: base.Launch) -> tuple[base.Exit, bytes]:
    running = await process.start(site.folder, launch, limits=limits(), attempt=site.job.attempt)
    end = await ended(running)
    said = (site.folder / "stdout.log").read_bytes()
    return end, said or (site.folder / "stderr.log").read_bytes()


@boxed_here
@pytest.mark.parametrize("network", list(Network))
async def test_every_way_out_is_refused_and_the_work_is_not(
    site: Site, tmp_path: Path, network: Network
) -> None:
    secrets = [
        put(site.root / "token"),
        put(site.root / "machine.json"),
        put(site.root / "outbox/record.json"),
        put(site.root / "attempts/t2.7.1/task.json"),
        put(site.root / "repositories/worktrees/t2/code.py"),
        put(site.root / "agents/bob/history.json"),
        put(site.operator / ".ssh/id_ed25519"),
        put(site.operator / ".aws/credentials"),
        put(site.folder / "stdout-of-others"),
    ]
    if os.geteuid() == 0:
        secrets.append(Path("/etc/shadow"))
    places = [Path("/usr/agentcom-was-here"), Path("/etc/hosts")]
    borrowed = put(site.root / "repositories/caches/a/repo.git/objects/pack/one", "object")
    put(site.operator / ".codex/auth.json", "login")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as control,
    ):
        control.bind(str(tmp_path / "control"))
        control.listen()
        told = {
            "secrets": [str(path) for path in secrets],
            "places": [*map(str, places), str(borrowed), site.job.task_file],
            "pids": [os.getpid()],
            "socket": str(tmp_path / "control"),
            "port": server.getsockname()[1],
            "borrowed": str(borrowed),
        }
        put(site.worktree / "told.json", json.dumps(told))
        put(site.worktree / "attack.py", ATTACK)
        confines = Confines(sandbox=Sandbox.REQUIRED, network=network)
        launch = site.boxed(sys.executable, "-S", "attack.py", "told.json", confines=confines)
        end, said = await run(site, launch)

    assert end == base.Exit(code=0), said
    result = json.loads(said)
    allowed = {"own folder", "own home", "login", "temporary", "borrowed"}
    allowed |= {"network"} if network is Network.ALL else set()
    tried = {name: it for name, it in result.items() if isinstance(it, str)}
    assert {name for name, it in tried.items() if it != "refused"} == allowed
    assert len(tried) == 2 * len(secrets) + len(told["places"]) + 10
    assert result["processes"] == [1, 2]
    assert set(result["environment"]) <= {"AGENTCOM_ATTEMPT", "HOME", "PATH", "PWD", "LC_CTYPE"}
    assert (site.operator / ".codex/auth.json").read_text() == "loginx"
    assert (site.root / "agents/ada/kept.txt").exists()
    assert sorted(it.name for it in site.operator.iterdir()) == [".aws", ".codex", ".ssh"]
    assert not os.path.exists("/tmp/kept.txt")  # noqa: ASYNC240, PTH110 - at once


@boxed_here
async def test_daemons_die_with_the_program_and_with_a_killed_supervisor(
    site: Site, tmp_path: Path
) -> None:
    mark = f"boxed-{tmp_path.name}"
    text = HIDDEN.replace("MARK", repr(mark))
    launch = site.boxed(sys.executable, "-S", "-c", text)
    running = await process.start(site.folder, launch, limits=limits(), attempt=site.job.attempt)
    assert await first_line(running) == b"ready"
    assert len(marked(mark)) == 3
    record = survivors.read_record(site.folder)
    assert record is not None
    handles = [os.pidfd_open(pid) for pid in marked(mark)]
    os.kill(record.pid, signal.SIGKILL)

    loop = asyncio.get_running_loop()
    for handle in handles:
        gone = asyncio.Event()
        loop.add_reader(handle, gone.set)
        async with asyncio.timeout(PATIENCE_S):  # nobody looks for them: the kernel ends them
            await gone.wait()
        loop.remove_reader(handle)
        os.close(handle)

    assert marked(mark) == []


@boxed_here
async def test_a_stop_lets_the_program_end_by_itself(site: Site) -> None:
    polite = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    launch = site.boxed("sh", "-c", polite)
    running = await process.start(
        site.folder, launch, limits=limits(grace_ms=20_000), attempt=site.job.attempt
    )
    assert await first_line(running) == b"ready"

    end = await running.stop(base.Stop.CANCELLED)

    assert end == base.Exit(code=3, stop=base.Stop.CANCELLED)
    assert b"bye" in (site.folder / "stdout.log").read_bytes()


@boxed_here
@pytest.mark.parametrize(
    ("script", "end"),
    [("exit 7", base.Exit(code=7)), ("kill -9 $$", base.Exit(code=None, signal=9))],
)
async def test_the_end_of_the_program_is_that_of_the_sandbox(
    site: Site, script: str, end: base.Exit
) -> None:
    assert (await run(site, site.boxed("sh", "-c", script)))[0] == end


@boxed_here
def test_a_missing_program_is_said_to_be_not_installed(site: Site) -> None:
    with pytest.raises(process.NotStarted, match="no-such-agent") as refusal:
        site.boxed("no-such-agent")

    assert refusal.value.failure is FailureClass.NOT_INSTALLED


@boxed_here
async def test_a_program_in_the_operators_home_is_shown_with_what_it_is_made_of(
    site: Site,
) -> None:
    package = site.operator / "node/lib/node_modules/agent"
    put(package / "words.txt", "hello")
    program = put(package / "cli.sh", '#!/bin/sh\ncat "$(dirname "$(readlink -f "$0")")/words.txt"')
    program.chmod(0o755)
    link = site.operator / "node/bin/agent"
    link.parent.mkdir()
    link.symlink_to("../lib/node_modules/agent/cli.sh")
    put(site.operator / "notes.txt")

    end, said = await run(site, site.boxed(str(link)))

    assert (end, said) == (base.Exit(code=0), b"hello")


@boxed_here
async def test_a_program_finds_the_packages_beside_its_folder(site: Site) -> None:
    put(site.operator / "agent/node_modules/words/words.txt", "hello")
    inner = 'cat "$(dirname "$0")/../node_modules/words/words.txt"'
    program = put(site.operator / "agent/bin/agent", f"#!/bin/sh\n{inner}\n")
    program.chmod(0o755)

    end, said = await run(site, site.boxed(str(program)))

    assert (end, said) == (base.Exit(code=0), b"hello")


@boxed_here
async def test_what_an_operator_adds_is_shown(site: Site, tmp_path: Path) -> None:
    put(tmp_path / "data/in.txt", "given")
    (tmp_path / "out").mkdir()
    confines = Confines(readable=(str(tmp_path / "data"),), writable=(str(tmp_path / "out"),))
    copy = f"cp {tmp_path}/data/in.txt {tmp_path}/out/"

    end, said = await run(site, site.boxed("sh", "-c", copy, confines=confines))

    assert end == base.Exit(code=0), said
    assert (tmp_path / "out/in.txt").read_text() == "given"


@boxed_here
async def test_a_check_sees_its_checkout_and_no_home(site: Site, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    for name in ("home", "tmp"):
        (scratch / name).mkdir(parents=True)
    secret = put(site.root / "token")
    environment = {"PATH": os.environ["PATH"], "HOME": str(scratch / "home")}
    look = f"touch made && cat {secret}"
    launch = base.Launch(argv=("sh", "-c", look), environment=environment, cwd=str(site.worktree))
    launch = Boxes(site.root).check(launch, Confines(), scratch=scratch)

    end, said = await run(site, launch)

    assert end.code == 1
    assert b"No such file" in said
    assert (site.worktree / "made").exists()


REFRESH = """
import fcntl, json, os
folder = os.path.expanduser("~/.codex")
with open(folder + "/lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    login = json.load(open(folder + "/auth.json"))
    login["used"].append(login["refresh"])
    login["refresh"] += 1
    with open(folder + "/auth.json.new", "w") as draft:
        json.dump(login, draft)
    os.replace(folder + "/auth.json.new", folder + "/auth.json")
"""
"""A login that is renewed as programs do it: under a lock, and by renaming."""


@boxed_here
async def test_agents_that_share_a_login_renew_it_one_after_the_other(site: Site) -> None:
    login = put(site.operator / ".codex/auth.json", json.dumps({"refresh": 0, "used": []}))

    async def renewed(number: int) -> base.Exit:
        launch = site.boxed(sys.executable, "-S", "-c", REFRESH)
        folder = site.folder / f"run-{number}"
        running = await process.start(folder, launch, limits=limits(), attempt=site.job.attempt)
        return await ended(running)

    assert set(await asyncio.gather(*map(renewed, range(6)))) == {base.Exit(code=0)}
    kept = json.loads(login.read_text())
    assert kept == {"refresh": 6, "used": [0, 1, 2, 3, 4, 5]}


def no_sandbox(site: Site, confines: Confines) -> base.Launch:
    boxes = Boxes(site.root)
    boxes.found = sandbox.Found(problem="bwrap is not on PATH", fix="install bubblewrap")
    launch = base.Launch(argv=("true",), environment={}, cwd=str(site.worktree))
    return boxes.attempt(
        launch, site.job, confines, runtime="command", objects=None, temporary=site.folder
    )


def test_where_there_is_no_sandbox_who_requires_one_runs_nothing(site: Site) -> None:
    with pytest.raises(process.NotStarted, match="install bubblewrap") as refusal:
        no_sandbox(site, Confines(sandbox=Sandbox.REQUIRED))

    assert refusal.value.failure is FailureClass.NOT_INSTALLED
    assert not no_sandbox(site, Confines()).boxed


def test_an_agent_says_whether_it_runs_in_a_sandbox(site: Site) -> None:
    boxes = Boxes(site.root)
    agent = AgentConfig(name="ada", runtime="command", labels={"zone": "eu"})  # type: ignore[arg-type] # a NewType of str
    off = AgentConfig(name="bob", runtime="command", confines=Confines(sandbox=Sandbox.OFF))  # type: ignore[arg-type] # as above

    boxes.found = sandbox.Found(program="/usr/bin/bwrap")
    assert boxes.told(agent).labels == {"zone": "eu", LABEL: "on"}
    assert boxes.told(off).labels == {LABEL: "off"}
    boxes.found = sandbox.Found(problem="none")
    assert boxes.told(agent).labels == {"zone": "eu", LABEL: "off"}


def test_of_a_state_file_only_the_account_is_copied(site: Site) -> None:
    state = {"oauthAccount": {"emailAddress": "eve@example.org"}, "projects": {"/secret": {}}}
    put(site.operator / ".claude.json", json.dumps(state))
    environment = {"PATH": os.environ["PATH"], "HOME": str(site.operator)}
    launch = base.Launch(argv=("true",), environment=environment, cwd=str(site.worktree))
    boxes = Boxes(site.root)
    boxes.found = sandbox.Found(program="/usr/bin/bwrap")

    for _ in range(2):
        boxes.attempt(
            launch, site.job, Confines(), runtime="claude", objects=None, temporary=site.folder
        )

    kept = json.loads((site.root / "agents/ada/.claude.json").read_text())
    assert kept == {"oauthAccount": {"emailAddress": "eve@example.org"}}


@pytest.mark.parametrize(("program", "folder"), [("gemini", ".gemini"), ("some-agent", None)])
def test_a_program_that_a_command_names_has_its_own_login(
    tmp_path: Path, program: str, folder: str | None
) -> None:
    own, operator = tmp_path / "own", tmp_path / "operator"
    own.mkdir()

    shared = boxes._shared(boxes.program_of("acp", [f"/opt/bin/{program}", "--acp"]), operator, own)

    assert shared == (() if folder is None else (str(operator / folder),))
    assert boxes.program_of("claude", ["/opt/bin/cc"]) == "claude"
