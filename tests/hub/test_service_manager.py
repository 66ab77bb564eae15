"""The hub and the operator's supervisor: ready, alive, reloading, stopping, by sd_notify."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

WAIT_S = 20.0


class Manager:
    """A stand-in for systemd: hears what the service says of itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(WAIT_S)

    def hears(self, wanted: str) -> str:
        """Return the next message that begins so; those before it are not asked for."""
        while True:
            said = self._socket.recv(1_024).decode()
            if said.startswith(wanted):
                return said

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path / "notify")
    yield found
    found.close()


@pytest.fixture
def hub(manager: Manager, home: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-P", "-m", "agentcom.cli.main", "hub", "run", "--home", str(home)]
    process = subprocess.Popen(
        [*words, "--port", "0", "--store", "memory"],
        env={**os.environ, "NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "30000000"},
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_a_hub_tells_of_its_whole_life(
    manager: Manager, hub: subprocess.Popen[str], home: Path
) -> None:
    manager.hears("READY=1")
    manager.hears("WATCHDOG=1")

    (home / "hub.toml").write_text('log_level = "debug"\n')
    hub.send_signal(signal.SIGHUP)
    said = manager.hears("RELOADING=1")
    assert said.splitlines()[1].startswith("MONOTONIC_USEC=")
    manager.hears("READY=1")

    (home / "hub.toml").write_text("log_level = 3\n")
    hub.send_signal(signal.SIGHUP)
    manager.hears("RELOADING=1")
    manager.hears("READY=1")

    hub.send_signal(signal.SIGTERM)
    manager.hears("STOPPING=1")
    _, log = hub.communicate(timeout=WAIT_S)
    assert hub.returncode == 0
    told = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    (reloaded,) = [one for one in told if one["event"] == "hub.reloaded"]
    (kept,) = [one for one in told if one["event"] == "hub.settings_kept"]
    assert (reloaded["who"], reloaded["applied"]) == ("SIGHUP", ["log_level"])
    assert "hub.toml line 1: log_level" in kept["reason"]
