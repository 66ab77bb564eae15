"""A hub that only another computer can reach: the tunnel, its address, and what goes wrong."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentcom.model import errors
from agentcom.protocol import frames
from agentcom.sidecar import processes, tunnels
from agentcom.sidecar.config import Config
from agentcom.sidecar.shell import Sidecar
from agentcom.testing.waiting import until
from tests.client.fake_hub import FakeHub
from tests.sidecar.sidecar_world import RUNTIMES, config

VIA = "ssh://ada@jump.example:2222"


class Ssh:
    """The stand-in for ssh on the path."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "ssh.log"

    @property
    def calls(self) -> list[dict[str, Any]]:
        text = self._log.read_text() if self._log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ssh:
    program = Path(__file__).with_name("ssh_stand_in.py")
    tool = tmp_path / "bin" / "ssh"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("AGENTCOM_TEST_SSH_LOG", str(tmp_path / "ssh.log"))
    monkeypatch.setattr(tunnels, "RETRY_S", 0.01)
    return Ssh(tmp_path)


@pytest.mark.parametrize(
    ("text", "via"),
    [
        ("ssh://jump", tunnels.Via("jump")),
        ("ssh://ada@10.0.0.5", tunnels.Via("10.0.0.5", "ada")),
        ("ssh://ada@jump.example:2222/", tunnels.Via("jump.example", "ada", 2222)),
    ],
)
def test_an_address_names_who_where_and_which_port(text: str, via: tunnels.Via) -> None:
    assert tunnels.parse(text) == via


@pytest.mark.parametrize(
    "text",
    [
        "jump",
        "ssh://",
        "ssh://-oProxyCommand=evil",
        "ssh://-l@jump",
        "ssh://a b@jump",
        "ssh://jump;id",
        "ssh://jump\n",
        "ssh://jump:99999",
        "ssh://jump:0",
        "ssh://ada:secret@jump",
        "ssh://jump/path",
        "http://jump",
    ],
)
def test_what_ssh_could_take_for_something_else_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidInput):
        tunnels.parse(text)


def test_ssh_is_asked_for_one_forward_and_to_trust_no_new_host() -> None:
    words = list(tunnels.command(tunnels.parse(VIA), "https://10.1.2.3:7420", 4_000))

    assert words[0] == "ssh"
    assert words[words.index("-L") + 1] == "127.0.0.1:4000:10.1.2.3:7420"
    assert words[-2:] == ["--", "jump.example"]
    assert {"StrictHostKeyChecking=yes", "BatchMode=yes", "ForwardAgent=no"} <= set(words)


def test_a_token_never_goes_on_in_clear_behind_the_tunnel() -> None:
    with pytest.raises(errors.InvalidInput):
        tunnels.command(tunnels.parse(VIA), "http://10.1.2.3:7420", 4_000)


async def test_a_hub_is_reached_for_some_calls(ssh: Ssh) -> None:
    async with FakeHub() as hub:

        def calls() -> None:
            with tunnels.opened(VIA, hub.url) as near:
                assert near != hub.url
                assert near.startswith("http://127.0.0.1:")

        await asyncio.to_thread(calls)

    (call,) = ssh.calls
    assert call["pid"] not in processes.read_table()


async def test_a_refusal_of_ssh_is_told_in_its_words(
    ssh: Ssh, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ssh.calls == []
    for said, told in (
        ("ada@jump.example: Permission denied (publickey).", "Permission denied"),
        ("Host key verification failed.", "compare the key"),
    ):
        monkeypatch.setenv("AGENTCOM_TEST_SSH_SAYS", said)

        with (
            pytest.raises(errors.Unavailable, match=told),
            tunnels.opened(VIA, "http://127.0.0.1:9"),
        ):
            pass


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_a_machine_works_through_its_tunnel_and_makes_it_anew(
    ssh: Ssh, tmp_path: Path
) -> None:
    async with FakeHub() as hub:
        plain = config(tmp_path, hub.url)
        machine = msgspec.structs.replace(plain.machine, via=VIA)
        async with tunnels.kept(msgspec.structs.replace(plain, machine=machine)) as near:
            assert near.machine.hub != hub.url
            running = _Running(near)
            await hub.connected()
            os.kill(ssh.calls[0]["pid"], signal.SIGKILL)
            await hub.connected(2)
            await hub.expect(frames.HeartbeatFrame)
            await running.end()

    await until(lambda: ssh.calls[-1]["pid"] not in processes.read_table())
    assert len(ssh.calls) == 2


class _Running:
    def __init__(self, config: Config) -> None:
        self.sidecar = Sidecar(config, runtimes=RUNTIMES)
        self.task = asyncio.create_task(self.sidecar.run(handle_signals=False))

    async def end(self) -> None:
        self.sidecar.stop()
        await self.task
