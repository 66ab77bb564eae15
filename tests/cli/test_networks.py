"""A second machine on a network of its own: behind NAT, and by ssh to a hub that nobody reaches.

Three network namespaces: the office with the hub, a router that knows both sides and hides one
behind its own address, and the box. Needs root, `ip`, `nft`, and for the second test a real `sshd`.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcom.cli import background
from tests.cli.terminal import Said, Shell

OFFICE, BOX = "10.99.1.2", "10.99.2.2"
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
_TOOLS = ("ip", "nft", "ssh", "ssh-keygen")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("networks"),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in _TOOLS), reason=f"needs {', '.join(_TOOLS)}"
    ),
]


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


class Network:
    """Two sides and a router between them that hides the second side."""

    def __init__(self, name: str) -> None:
        self.office, self.router, self.box = f"{name}o", f"{name}r", f"{name}b"
        for space in (self.office, self.router, self.box):
            run("ip", "netns", "add", space)
            self.inside(space, "ip", "link", "set", "lo", "up")
        self._cable(self.office, OFFICE, "10.99.1.1")
        self._cable(self.box, BOX, "10.99.2.1")
        self.inside(self.box, "ip", "route", "add", "default", "via", "10.99.2.1")
        self.inside(self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        rules = (
            "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; };"
            "add rule ip nat out ip saddr 10.99.2.0/24 masquerade"
        )
        self.inside(self.router, "nft", rules)

    def _cable(self, space: str, address: str, gateway: str) -> None:
        far = f"{space}-r"
        run("ip", "link", "add", f"{space}-x", "type", "veth", "peer", "name", far)
        for end, where, ip in ((f"{space}-x", space, address), (far, self.router, gateway)):
            run("ip", "link", "set", end, "netns", where)
            self.inside(where, "ip", "addr", "add", f"{ip}/24", "dev", end)
            self.inside(where, "ip", "link", "set", end, "up")

    @staticmethod
    def inside(space: str, *words: str) -> str:
        return run("ip", "netns", "exec", space, *words)

    def close(self) -> None:
        for space in (self.office, self.router, self.box):
            with contextlib.suppress(AssertionError):
                run("ip", "netns", "del", space)


class Inside(Shell):
    """A shell in a network namespace."""

    def __init__(self, space: str, folder: Path) -> None:
        folder.mkdir()
        super().__init__(folder / "home", folder)
        self._space = space
        self.tools: Path | None = None

    def __call__(self, *words: str, ok: bool = True, **variables: str) -> Said:
        env = {**self.variables(), "HOME": str(self.folder), **variables}
        if self.tools is not None:
            env["PATH"] = f"{self.tools}:{env['PATH']}"
        done = subprocess.run(
            ["ip", "netns", "exec", self._space, *background.program(*words)],
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert not ok or said.code == 0, said
        return said


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network(f"ac{os.getpid() % 10_000}")
    yield made
    made.close()


@pytest.fixture
def office(network: Network, tmp_path: Path) -> Iterator[Inside]:
    shell = Inside(network.office, tmp_path / "office")
    yield shell
    shell("down", ok=False)


@pytest.fixture
def box(network: Network, tmp_path: Path) -> Iterator[Inside]:
    shell = Inside(network.box, tmp_path / "box")
    yield shell
    shell("down", ok=False)


def line_of(said: Said) -> str:
    return said.out.strip().splitlines()[-1].removeprefix("agentcom join '").removesuffix("'")


def works(office: Inside) -> None:
    said = office("submit", "--no-repo", "--command", "--watch", "--needs", "far", "--", "true")
    assert said.out.splitlines()[-1].split()[1] == "completed"


def test_one_pasted_line_is_enough_behind_nat(
    network: Network, office: Inside, box: Inside
) -> None:
    line = line_of(office("up", "--no-agents", "--listen", OFFICE))
    unreached = subprocess.run(
        ["ip", "netns", "exec", network.office, "ip", "route", "get", BOX],
        capture_output=True,
        check=False,
    )
    assert unreached.returncode != 0  # nobody at the office can dial the box

    assert "connected" in box("join", line, "--agent", "far=command:capabilities=far").out
    works(office)


@pytest.mark.skipif(not Path(SSHD).exists(), reason="needs sshd (Debian: openssh-server)")
def test_a_hub_on_a_loopback_is_reached_by_ssh_and_again_after_a_cut(
    network: Network, office: Inside, box: Inside, tmp_path: Path
) -> None:
    office("up", "--no-agents")
    line = line_of(office("machine", "invite"))
    sshd = Sshd(network, tmp_path / "sshd", box)
    join = ("join", line, "--via", f"ssh://root@{OFFICE}:2222")
    agent = ("--agent", "far=command:capabilities=far")
    try:
        stranger = box(*join, *agent, ok=False)
        assert "compare the key" in stranger.err
        sshd.introduce()
        assert "connected" in box(*join, *agent).out
        works(office)

        sshd.restart()
        (name,) = [row[0] for row in office("machine", "ls").lines]
        assert background.wait_for(
            lambda: "draining" not in office("machine", "show", name).out, timeout_s=5
        )
        works(office)
    finally:
        box("down", ok=False)
        sshd.stop()


class Sshd:
    """A real ssh server in the office that lets the box in by key."""

    def __init__(self, network: Network, folder: Path, box: Inside) -> None:
        folder.mkdir(mode=0o700)
        self._network, self._folder = network, folder
        run("ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(folder / "host"))
        run("ssh-keygen", "-qt", "ed25519", "-N", "", "-f", str(folder / "key"))
        tools = box.folder / "bin"
        tools.mkdir()
        ssh = tools / "ssh"
        # ssh looks for its files where the system says that root lives, not in HOME.
        ssh.write_text(
            f"#!/bin/sh\nexec {shutil.which('ssh')} -F none -i {folder / 'key'} "
            f'-o UserKnownHostsFile={folder / "known"} -o GlobalKnownHostsFile=none "$@"\n'
        )
        ssh.chmod(0o755)
        box.tools = tools
        self._config = folder / "config"
        self._config.write_text(
            f"Port 2222\nListenAddress {OFFICE}\nHostKey {folder / 'host'}\n"
            f"AuthorizedKeysFile {folder / 'key.pub'}\nStrictModes no\nUsePAM no\n"
            f"PidFile none\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def introduce(self) -> None:
        key = (self._folder / "host.pub").read_text()
        (self._folder / "known").write_text(f"[{OFFICE}]:2222 {key}")

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        """End the server and every connection through it."""
        assert self._process is not None
        pids = run("ip", "netns", "pids", self._network.office).split()
        for pid in pids:
            words = Path(f"/proc/{pid}/cmdline")
            with contextlib.suppress(OSError):
                if words.read_bytes().startswith(b"sshd"):
                    os.kill(int(pid), 9)
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", self._network.office, SSHD, "-D", "-f", str(self._config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
