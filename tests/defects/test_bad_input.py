"""Whatever comes in: a clear refusal with a stable code, nothing lost, and the hub goes on."""

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets import Subprotocol
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agentcom.client.hub import HubClient
from agentcom.model import errors, limits
from agentcom.model.agent import Held, HeldStage
from agentcom.model.ids import Fence, TaskId
from agentcom.model.task import LandPolicy, TaskState
from agentcom.protocol import codec, frames
from agentcom.sidecar import processes
from agentcom.testing.hub import RunningHub, running_hub
from tests.defects.house import (
    WRITE,
    RawMachine,
    done,
    edit,
    ended,
    finish,
    machine_config,
    raw_machine,
    raw_task,
    shown_task,
    sidecar_on,
)
from tests.sidecar.git_origin import Origin

INTERNALS = ("Traceback", 'File "', "site-packages", "/src/agentcom", "msgspec.", "apsw.")


def _codes(kind: type[errors.AgentComError]) -> set[str]:
    return {kind.code, *(code for below in kind.__subclasses__() for code in _codes(below))}


CODES = _codes(errors.AgentComError)


@dataclass
class Scene:
    """A hub with a task under way on a machine that plays by the rules."""

    hub: RunningHub
    client: HubClient
    machine: RawMachine
    task: TaskId
    fence: Fence


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Whatever the test did: the task of the others ends well, so the hub is alive and whole."""
    async with (
        running_hub() as hub,
        raw_machine(hub.url, (await hub.machine("good")).token) as machine,
        await HubClient.connect(hub.url, hub.admin_token) as client,
    ):
        await machine.hello()
        (task,) = (await client.submit([raw_task()])).tasks
        given = (await machine.accept()).assignment
        yield Scene(hub, client, machine, task, given.fence)
        await machine.send(finish(task, given.fence))
        row = await ended(client, task)
        assert (row.state, row.attempt) == (TaskState.COMPLETED, 1)


def _checked(text: str, code: str | None = None) -> str:
    """Return the code of a refusal that gives nothing away."""
    assert not any(word in text for word in INTERNALS), text
    answer = json.loads(text)
    assert answer["code"] in CODES, answer
    assert code is None or answer["code"] == code, answer
    return str(answer["code"])


# Who comes in --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token",
    ["x", "acm_usr_0000", "acm_mch_" + "a" * 60, "a" * 5_000, "../../etc/passwd", "' OR 1=1"],
)
async def test_a_wrong_token_opens_nothing(scene: Scene, token: str) -> None:
    header = {"Authorization": f"Bearer {token}"}
    async with scene.hub.client(None) as http:
        answer = await http.get("/api/v1/tasks", headers=header)
    assert answer.status_code in {401, 431}, answer.text
    if answer.status_code == 401:
        _checked(answer.text, "not_authenticated")

    with pytest.raises((InvalidStatus, ConnectionClosed)):
        async with connect(
            scene.hub.ws_url,
            subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
            additional_headers=header,
            proxy=None,
        ) as socket:
            await socket.recv()


async def test_a_token_in_the_address_is_refused_and_not_repeated(scene: Scene) -> None:
    async with scene.hub.client(None) as http:
        answer = await http.get(f"/api/v1/tasks?token={scene.hub.admin_token}")

    assert answer.status_code in {400, 401}
    assert scene.hub.admin_token not in answer.text


# Foreign and stale ---------------------------------------------------------------------------


async def test_another_machine_cannot_end_a_task_with_the_right_fence(scene: Scene) -> None:
    token = (await scene.hub.machine("evil")).token
    async with raw_machine(scene.hub.url, token) as evil:
        await evil.socket.send(_hello("evil"), text=True)
        await evil.get(frames.Welcome)
        await evil.send(finish(scene.task, scene.fence, done("mine")))
        # Refused silently or with an error; then the next frame is answered as ever.
        await evil.send(frames.StoppedFrame(task=scene.task, fence=scene.fence))
        await evil.say(b'{"type": "nonsense"}')
        await evil.get(frames.ErrorFrame)

    row = await shown_task(scene.client, scene.task)
    assert (row.state, row.attempt) == (TaskState.RUNNING, 1)


async def test_a_machine_cannot_take_the_name_of_anothers_agent(scene: Scene) -> None:
    token = (await scene.hub.machine("evil")).token
    async with raw_machine(scene.hub.url, token) as evil:
        welcome = await evil.hello()

    assert [refusal.code for refusal in welcome.welcomed.refused] == ["name_taken"]


@pytest.mark.parametrize("fence", [Fence(0, 0), Fence(0, 1), Fence(1, -1), Fence(0, 99)])
async def test_a_stale_fence_changes_nothing(scene: Scene, fence: Fence) -> None:
    await scene.machine.send(finish(scene.task, fence, done("old")))
    await scene.machine.say(b'{"type": "nonsense"}')
    await scene.machine.get(frames.ErrorFrame)

    row = await shown_task(scene.client, scene.task)
    assert (row.state, row.fence) == (TaskState.RUNNING, scene.fence)


async def test_reports_about_tasks_that_never_were_are_harmless(scene: Scene) -> None:
    for name in ("", "nobody", "../../x", "a/b", "\x00", "x" * 10_000, "é" * 100):
        task = TaskId(name)
        await scene.machine.send(finish(task, Fence(1, 1)))
        await scene.machine.send(frames.Accept(task=task, fence=Fence(1, 1)))
        await scene.machine.send(frames.Progress(task=task, fence=Fence(1, 1), text="x"))
    held = (
        Held(scene.task, scene.fence, HeldStage.RUNNING),
        Held(TaskId("nobody"), Fence(1, 1), HeldStage.RUNNING),
    )
    beat = frames.HeartbeatFrame(session=scene.machine.session, n=5, held=held)
    await scene.machine.send(beat)

    assert (await scene.machine.get(frames.Beat)).n == 5


async def test_a_client_cannot_speak_as_a_machine(scene: Scene) -> None:
    async with raw_machine(scene.hub.url, scene.hub.admin_token) as pretender:
        await pretender.socket.send(_hello("pretender"), text=True)
        refused = await pretender.get(frames.ErrorFrame)

    assert refused.code == "not_allowed"


# Frames that are none --------------------------------------------------------------------------

_FRAMES: list[tuple[bytes, str]] = [
    (b"", "malformed"),
    (b"\x00", "malformed"),
    (b"null", "invalid_input"),
    (b"[]", "invalid_input"),
    (b"{", "malformed"),
    (b"{}", "invalid_input"),
    (b'{"type": 7}', "invalid_input"),
    (b'{"type": "nonsense"}', "unsupported"),
    (b'{"type": "welcome"}', "unsupported"),
    (b'{"type": "finish"}', "invalid_input"),
    (b'{"type": "finish", "task": 1, "fence": [1, 1], "result": {}}', "invalid_input"),
    (b'{"type": "finish", "task": "t", "fence": [1], "result": {"status": "done"}}', "*"),
    (b'{"type": "accept", "task": "t", "fence": ["1", "1"]}', "invalid_input"),
    (b'{"type": "heartbeat", "session": 1e400, "n": 1}', "*"),
    (b'{"type": "submit", "key": "k", "tasks": []}', "not_allowed"),
    (b'{"type": "finish", "result": ' + b'{"report": ' * 20_000, "*"),
    (b"[" * 100_000, "invalid_input"),
]


@pytest.mark.parametrize(("payload", "code"), _FRAMES, ids=range(len(_FRAMES)))
async def test_a_frame_that_makes_no_sense_is_answered(
    scene: Scene, payload: bytes, code: str
) -> None:
    await scene.machine.say(payload.decode())

    refused = await scene.machine.get(frames.ErrorFrame)

    assert refused.code in CODES
    assert code in {"*", refused.code}, refused
    assert not any(word in refused.message for word in INTERNALS), refused


@pytest.mark.parametrize(
    ("payload", "text", "code"),
    [
        (b"x" * (limits.FRAME_BYTES + 1), True, 1009),
        (b"x" * (8 << 20), True, 1009),
        (b'{"type": "\xc3\x28"}', True, 1007),
        (b"\x00\x01", False, 1003),
    ],
    ids=["large", "huge", "bad utf-8", "binary"],
)
async def test_a_message_that_is_none_ends_only_the_connection_that_sent_it(
    scene: Scene, payload: bytes, text: bool, code: int
) -> None:
    async with _other(scene) as machine:
        await _insist(machine, payload, text=text)

    assert machine.socket.close_code == code


async def test_who_only_talks_nonsense_is_let_go(scene: Scene) -> None:
    async with _other(scene) as machine:
        for _ in range(100):
            await _insist(machine, b"{")

    assert machine.socket.close_code == 1008


@asynccontextmanager
async def _other(scene: Scene) -> AsyncIterator[RawMachine]:
    token = (await scene.hub.machine("other")).token
    async with raw_machine(scene.hub.url, token) as machine:
        await machine.socket.send(_hello("other"), text=True)
        await machine.get(frames.Welcome)
        yield machine


async def _insist(machine: RawMachine, payload: bytes, *, text: bool = True) -> None:
    """Send something, and go on until it is answered or the connection ends."""
    with contextlib.suppress(ConnectionClosed):
        await machine.socket.send(payload, text=text)
        await machine.get(frames.ErrorFrame)


# Tasks that are none ---------------------------------------------------------------------------

_TRAVERSAL = "../../../etc"
_OPTIONS = ("--upload-pack=touch /tmp/x", "-c core.sshCommand=x", "ext::sh -c x", "-x")
_BAD_SPECS: list[dict[str, Any]] = [
    {"title": ""},
    {"title": "x" * 201},
    {"title": "a\nb"},
    {"title": "a\x1b[31mb"},
    {"prompt": "x" * (limits.PROMPT_BYTES + 1)},
    {"prompt": "a\0b"},
    {"prompt": "", "command": []},
    {"command": ["a\0b"]},
    {"command": ["x"] * 1_000},
    {"priority": 11},
    {"priority": 10**30},
    {"deadline_ms": 0},
    {"deadline_ms": -5},
    {"failures_max": 0},
    {"needs": ["x" * 5_000]},
    {"needs": ["; rm -rf /"]},
    {"needs": ["x"] * 100},
    {"verify": ["x\0"]},
    {"verify": ["x"] * 100},
    {"labels": {"a": "x" * 5_000}},
    {"labels": {f"{n}": "x" for n in range(100)}},
    {"depends_on": [{"task": "nobody"}]},
    {"depends_on": [{"task": "../x"}]},
    {"ref": "me", "depends_on": [{"task": "me"}]},
    {"unique_key": "x" * 5_000},
    {"not_before": -1},
    *({"repo": repo} for repo in (*_OPTIONS, _TRAVERSAL, "file:///a/../b", "http://x/y")),
    *({"repo": f"https://user:secret@{host}/x"} for host in ("example.org",)),
    *({"repo": "/r", "base": base} for base in (*_OPTIONS, _TRAVERSAL, "a..b", "HEAD", "a@{1}")),
    *({"repo": "/r", "base": base} for base in ("refs/heads/main", "a b", "a;b", "$(x)", "a\nb")),
]


@pytest.mark.parametrize("fields", _BAD_SPECS, ids=lambda fields: json.dumps(fields)[:40])
async def test_a_task_that_may_not_be_is_refused_by_both_doors(
    scene: Scene, fields: dict[str, Any]
) -> None:
    spec = {"title": "x", "prompt": "x", **fields}
    answer = await scene.hub.http.post("/api/v1/tasks", json=spec)
    assert answer.status_code in {400, 404, 413, 422}, answer.text
    code = _checked(answer.text)
    assert "secret" not in answer.text

    async with raw_machine(scene.hub.url, scene.hub.admin_token) as peer:
        await peer.send(frames.Hello())
        await peer.get(frames.Ready)
        asked = {"type": "submit", "key": "k", "tasks": [spec]}
        await peer.say(json.dumps(asked))
        refused = await peer.get(frames.ErrorFrame)

    assert refused.key == "k"
    assert refused.code == code
    assert not any(word in refused.message for word in INTERNALS)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"title": "\xc3\x28", "prompt": "x"}', "application/json"),
        (b"[" * 50_000, "application/json"),
        (b'{"title": "x", "prompt": "x", "nonsense": 1}', "application/json"),
        (b'{"title": "x", "prompt": "x", "state": "completed"}', "application/json"),
        (b'{"title": "x", "prompt": "x", "submitter": "root"}', "application/json"),
        (b"title=x", "application/x-www-form-urlencoded"),
        (b"x" * (2 << 20), "application/json"),
    ],
    ids=range(10),
)
async def test_a_body_that_is_none_is_refused(scene: Scene, body: bytes, kind: str) -> None:
    headers = {"content-type": kind}

    answer = await scene.hub.http.post("/api/v1/tasks", content=body, headers=headers)

    assert answer.status_code in {400, 413, 415, 422}, answer.text
    _checked(answer.text)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/tasks/..%2f..%2fetc%2fpasswd",
        "/api/v1/tasks/%00",
        "/api/v1/tasks/" + "x" * 5_000,
        "/api/v1/tasks/' OR 1=1 --",
        "/api/v1/tasks?limit=1e9",
        "/api/v1/tasks?limit=-1",
        "/api/v1/tasks?cursor=forged",
        "/api/v1/tasks?state=nonsense",
        "/api/v1/tasks?q=%25%27%3B--",
        "/api/v1/nowhere",
        "/../../etc/passwd",
        "/.git/config",
    ],
)
async def test_an_address_that_is_none_is_refused(scene: Scene, path: str) -> None:
    answer = await scene.hub.http.get(path)

    assert answer.status_code < 500, answer.text
    if not answer.is_success:
        assert answer.status_code in {400, 404, 414, 422}
        _checked(answer.text)


# Repositories that bite ------------------------------------------------------------------------


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_hooks_and_settings_of_a_hostile_repository_run_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "TRAPPED"
    hook = f"#!/bin/sh\ntouch {trap}\n"
    origin = Origin(tmp_path / "forge")
    origin.push(
        {
            "README.md": "x\n",
            ".githooks/pre-commit": hook,
            ".githooks/post-checkout": hook,
            ".gitattributes": "* filter=evil diff=evil merge=evil\n",
            ".gitmodules": f'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch {trap}"\n',
            ".agentcom.toml": 'land = "branch"\n',
        }
    )
    plant = (
        f"mkdir -p .githooks && git config core.hooksPath .githooks; "
        f"git config filter.evil.clean 'touch {trap}'; git config core.fsmonitor 'touch {trap}'; "
        f"git config core.sshCommand 'touch {trap}'; chmod +x .githooks/*; rm -f {trap}"
    )
    async with running_hub() as hub:
        home = machine_config(tmp_path, hub=hub.url, admitted=await hub.machine("m1"))
        async with sidecar_on(home), await HubClient.connect(hub.url, hub.admin_token) as client:
            steps = ({"shell": ["sh", "-c", plant]}, WRITE)
            spec = edit(origin.url, *steps, land=LandPolicy.BRANCH, failures_max=1)
            (task,) = (await client.submit([spec])).tasks
            row = await ended(client, task)

    assert row.state is TaskState.COMPLETED, row.reason
    assert not trap.exists()


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_an_origin_that_is_not_there_is_a_failure_with_a_reason(tmp_path: Path) -> None:
    async with running_hub() as hub:
        home = machine_config(tmp_path, hub=hub.url, admitted=await hub.machine("m1"))
        async with sidecar_on(home), await HubClient.connect(hub.url, hub.admin_token) as client:
            spec = edit(tmp_path / "nowhere.git", WRITE, failures_max=1)
            (task,) = (await client.submit([spec])).tasks
            row = await ended(client, task)

    assert row.state is TaskState.FAILED
    assert row.reason
    assert "Traceback" not in row.reason


def _hello(agent: str) -> bytes:
    hello = json.loads(codec.encode(frames.MachineHello(agents=())))
    hello["agents"] = [{"name": f"agent-{agent}", "runtime": "command"}]
    return json.dumps(hello).encode()
