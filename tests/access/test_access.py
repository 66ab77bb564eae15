"""Everyone at every door: what each is answered is what the table of roles says, on a real hub.

Lines come from the tables that make the doors, so one without a sample fails here.
"""

import asyncio
import re
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import pytest
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect

from agentcom.model.identity import Role
from agentcom.model.ids import DEFAULT_PROJECT
from agentcom.protocol import frames
from agentcom.testing.waiting import PATIENCE_S
from agentcom.transport import ws_machine
from docs.tools import access
from docs.tools.access import Door, Line
from tests.access import samples
from tests.access.samples import Sample
from tests.access.world import MARK, SUE, Caller, World, code_of, filled, rows, whole_world

SAMPLES: Mapping[Door, Mapping[str, tuple[Sample, ...]]] = {
    Door.HTTP: samples.HTTP,
    Door.CALL: samples.CALLS,
    Door.TOOL: samples.TOOLS,
    Door.FRAME: samples.FRAMES,
    Door.LOG: samples.LOGS,
}
RIGHTS = frozenset({"not_authenticated", "not_allowed", "not_found"})
ABSENT = {
    "task": "0" * 26,
    "blob": "0" * 64,
    "limit": "key:nobody",
    "budget": "submitter:nobody",
}
MCP = {"accept": "application/json, text/event-stream"}
CAUSE = re.compile(r',?"cause":"[a-z0-9]+"')
"""What differs from request to request."""
TURNS = 20  # of the hub: enough for acts that wait for the next one


class Question(NamedTuple):
    """One sample, asked by someone."""

    line: Line
    sample: Sample
    caller: Caller
    wanted: str


class Told(NamedTuple):
    """What came back, whatever the door."""

    code: str
    text: str


Asking = Callable[[World, Question, str], Awaitable[Told]]


def wanted(line: Line, sample: Sample, caller: Caller) -> str:
    """Return what the table says that someone is answered."""
    who = caller.identity
    guarded = line if sample.guard is None else line._replace(access=sample.guard)
    is_theirs = sample.thing in (None, "self") and sample.owner is None and not sample.named
    home = None if is_theirs or who is None else DEFAULT_PROJECT
    if who is None or (caller.is_foreign and home is not None):
        return access.verdict(line, who, owner=sample.owner, project=home)
    if who.user == sample.owner:
        return access.verdict(line, who, owner=sample.owner)
    if line.door is Door.LOG and who.role is Role.AGENT and "channel" in line.name:
        return "yes"  # as far as rights go; a machine follows no channels
    answer = access.verdict(guarded, who, owner=sample.owner, project=home)
    if answer == "yes" and sample.others is not None:
        return sample.others
    return "not_allowed" if answer == "not_found" and sample.seen else answer


def questions(world: World, doors: Sequence[Door]) -> Iterator[Question]:
    for line in access.lines():
        if line.door in doors:
            for sample in SAMPLES[line.door][line.name]:
                for caller in world.callers:
                    yield Question(line, sample, caller, wanted(line, sample, caller))


def test_nothing_is_without_a_sample() -> None:
    lines = {(line.door, line.name) for line in access.lines()}

    assert lines == {(door, name) for door, known in SAMPLES.items() for name in known}


def test_the_samples_of_frames_are_frames() -> None:
    decoder = msgspec.json.Decoder(frames.FromPeer)
    for name, known in samples.FRAMES.items():
        for sample in known:
            decoder.decode(msgspec.json.encode({"type": name, **sample.body}))


@pytest.mark.timeout(300)
async def test_everyone_gets_what_the_table_says_over_http() -> None:
    async with whole_world() as world:
        wrong = await _go_through(world, (Door.HTTP,), _by_http)

    assert not wrong, "\n".join(wrong)


@pytest.mark.timeout(300)
async def test_everyone_gets_what_the_table_says_by_calls_and_tools() -> None:
    async with whole_world() as world:
        wrong = await _go_through(world, (Door.CALL,), _by_call)
        # Who is nobody gets no farther than the route, which has its own lines.
        world.callers = [one for one in world.callers if one.identity is not None]
        wrong += await _go_through(world, (Door.CALL, Door.TOOL), _by_tool)

    assert not wrong, "\n".join(wrong)


@pytest.mark.timeout(300)
async def test_everyone_gets_what_the_table_says_over_a_socket() -> None:
    async with whole_world() as world:
        wrong = [
            fault
            for caller in world.callers
            if caller.identity is not None
            for fault in await _go_through_socket(world, caller)
        ]

    assert not wrong, "\n".join(wrong)


async def _go_through(world: World, doors: Sequence[Door], ask: Asking) -> list[str]:
    """Ask all that is refused, which leaves no trace, then all that is not."""
    every = list(questions(world, doors))
    refused = [one for one in every if one.wanted in RIGHTS]
    let_through = [one for one in every if one.wanted not in RIGHTS]
    before = rows(world.store)
    wrong = [fault for one in refused for fault in await _check(world, one, ask)]
    changed = [key for key, row in rows(world.store).items() if before.get(key) != row]
    wrong += [f"refused, and yet it wrote {key}" for key in changed]
    let_through.sort(key=lambda one: one.sample.once)
    return wrong + [fault for one in let_through for fault in await _check(world, one, ask)]


async def _check(world: World, one: Question, ask: Asking) -> list[str]:
    thing = await _thing(world, one)
    told = await ask(world, one, thing)
    faults = []
    past = told.code not in RIGHTS or bool(one.sample.said and one.sample.said in told.text)
    if (told.code != one.wanted) if one.wanted in RIGHTS else not past:
        faults.append(f"{_name(one)}: {told.code}, not {one.wanted}: {told.text[:200]}")
    if one.caller.is_foreign:
        asked = {thing, str(SUE)} if one.sample.named or thing else {""}
        if MARK in _without(told.text, asked):
            faults.append(f"{_name(one)}: told of another project: {told.text[:300]}")
        if one.wanted == "not_found" and one.sample.thing is not None:
            faults += await _oracle(world, one, ask, thing, told)
    return faults


async def _oracle(world: World, one: Question, ask: Asking, thing: str, told: Told) -> list[str]:
    """A foreign thing must look exactly like one that is not there."""
    absent = ABSENT.get(one.sample.thing or "", "x" * len(thing))
    other = await ask(world, one, absent)
    said = CAUSE.sub("", other.text).replace(absent, thing)
    same = (other.code, said) == (told.code, CAUSE.sub("", told.text))
    return [] if same else [f"{_name(one)}: {told.text} and {other.text} tell what is there"]


async def _thing(world: World, one: Question) -> str:
    kind = one.sample.thing
    if kind is None:
        return ""
    reads = one.line.name.startswith("GET ")
    return world.standing[kind] if one.wanted in RIGHTS or reads else await world.new(kind)


def _without(text: str, words: Iterable[str]) -> str:
    """Return a text without what was in the question."""
    for word in words:
        text = text.replace(word, "") if word else text
    return text


def _name(one: Question) -> str:
    return f"{one.caller.name} at {one.line.name}"


# How each door is asked ---------------------------------------------------------------------------


async def _by_http(world: World, one: Question, thing: str) -> Told:
    method, _, path = one.line.name.partition(" ")
    sample, name = one.sample, world.word()
    answer = await world.http.ask(
        method,
        (path + sample.query).replace("{id}", thing),
        token=one.caller.token,
        body=filled(sample.body, thing, name) if sample.body is not None else None,
        headers=MCP if path == "/mcp" else None,
        stream=sample.stream,
    )
    return Told(code_of(answer), answer.body.decode("utf-8", "replace").replace(name, ""))


async def _by_call(world: World, one: Question, thing: str) -> Told:
    name = world.word()
    answer = await world.http.ask(
        "POST",
        f"/api/v1/calls/{one.line.name}",
        token=one.caller.token,
        body=filled(one.sample.body, thing, name),
        headers=one.caller.headers,
    )
    return Told(code_of(answer), answer.body.decode().replace(name, ""))


async def _by_tool(world: World, one: Question, thing: str) -> Told:
    name = world.word()
    arguments = filled(one.sample.body, thing, name)
    params = {"name": one.line.name, "arguments": arguments}
    answer = await world.http.ask(
        "POST",
        "/mcp?profile=full",
        token=one.caller.token,
        body={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        headers={**MCP, **one.caller.headers},
    )
    if answer.status != 200:
        return Told(code_of(answer), answer.body.decode())
    result = answer.json["result"]
    text = result["content"][0]["text"]
    code = msgspec.json.decode(text)["code"] if result.get("isError") else "yes"
    return Told(code, text.replace(name, ""))


# Sockets ------------------------------------------------------------------------------------------


@asynccontextmanager
async def _socket(world: World, caller: Caller, first: Any) -> AsyncIterator[ClientConnection]:
    async with connect(
        world.hub.ws_url,
        subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
        additional_headers={"Authorization": f"Bearer {caller.token}"},
        proxy=None,
        compression=None,
    ) as socket:
        await _say(socket, first)
        yield socket


async def _say(socket: ClientConnection, frame: Any) -> None:
    await socket.send(msgspec.json.encode(frame), text=True)


async def _go_through_socket(world: World, caller: Caller) -> list[str]:
    doors = (Door.FRAME, Door.LOG, Door.CALL)
    mine = [one for one in questions(world, doors) if one.caller is caller]
    is_machine = caller.identity is not None and caller.identity.role is Role.AGENT
    of_machines = [one for one in mine if one.line.access is ws_machine.ACCESS]
    others = [one for one in mine if one not in of_machines]
    wrong = []
    async with _socket(world, caller, {"type": "hello"}) as socket:
        await socket.recv()

        async def ask(_world: World, one: Question, thing: str) -> Told:
            return await _by_frame(world, socket, one, thing)

        for one in others if is_machine else mine:
            wrong += await _check(world, one, ask)
    if is_machine:
        session = world.machine.socket

        async def report(_world: World, one: Question, thing: str) -> Told:
            return await _by_frame(world, session, one, thing)

        for one in of_machines:
            wrong += await _check(world, one, report)
    else:
        async with _socket(world, caller, {"type": "machine", "agents": []}) as socket:
            said = msgspec.json.decode(await socket.recv(decode=False))
            if said.get("code") != "not_allowed":
                wrong.append(f"{caller.name} begins as a machine: {said}")
    return wrong


async def _by_frame(world: World, socket: ClientConnection, one: Question, thing: str) -> Told:
    """Send one frame and another that is answered; return what came for the first."""
    name, end = world.word(), world.word()
    attempt = _attempt(one.caller)
    await _put(socket, one, thing, name)
    texts: list[str] = []
    code = "yes"
    answered = one.line.door not in (Door.LOG, Door.CALL)
    if answered:
        await _say(socket, {"type": "call", "key": end, "call": {"call": "whoami"}, **attempt})
    async with asyncio.timeout(PATIENCE_S):
        while True:
            data = await socket.recv(decode=False)
            said = msgspec.json.decode(data)
            key = said.get("key")
            if key == end:
                break
            if said["type"] in ("error", "reply") or MARK in data.decode():
                texts.append(data.decode())
            if said["type"] == "error" and key in (None, name):
                code = said["code"]
            if not answered and key == name:
                break
    return Told(code, "".join(texts).replace(name, ""))


async def _put(socket: ClientConnection, one: Question, thing: str, name: str) -> None:
    body = filled(one.sample.body or {}, thing, name)
    match one.line.door:
        case Door.LOG:
            log = one.line.name + thing
            await _say(socket, {"type": "subscribe", "key": name, "log": log})
        case Door.CALL:
            call = {"call": one.line.name, **body}
            await _say(socket, {"type": "call", "key": name, "call": call, **_attempt(one.caller)})
        case _:
            await _say(socket, {"type": one.line.name, **body})


def _attempt(caller: Caller) -> dict[str, Any]:
    if not caller.headers:
        return {}
    fence = [int(part) for part in caller.headers["agentcom-fence"].split(".")]
    return {"task": caller.headers["agentcom-task"], "fence": fence}


async def test_many_tasks_at_once_are_each_asked_for() -> None:
    async with whole_world() as world:
        task = world.standing["task"]
        token = next(one.token for one in world.callers if one.name == "submitter")
        for act in ("cancel", "retry"):
            await world.post(f"/api/v1/bulk/{act}", {"tasks": [task]}, token=token)
            for _ in range(TURNS):
                await world.http.ask("GET", "/healthz")
            assert not _left(world)
        shown = await world.http.ask("GET", f"/api/v1/tasks/{task}", token=world.sue)

    assert (shown.json["task"]["state"], shown.json["task"].get("attempt", 0)) == ("queued", 0)


def _left(world: World) -> list[str]:
    """Return what is still to be done of acts on many tasks."""
    return [key for key in rows(world.store) if key.startswith("todo/")]


@pytest.mark.parametrize("door", list(Door), ids=lambda door: door.value)
def test_every_door_has_lines(door: Door) -> None:
    assert any(line.door is door for line in access.lines())
