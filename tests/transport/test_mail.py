"""Mail through the doors: people over HTTP, programs and machines over the WebSocket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from websockets import Subprotocol
from websockets.asyncio.client import connect

from agentcom.model.identity import Role
from agentcom.model.ids import AgentId
from agentcom.protocol import calls, frames
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.waiting import PATIENCE_S
from tests.transport.peers import Peer
from tests.transport.test_caller import Held, holding

CALLS = "/api/v1/calls"


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as running:
        yield running


async def do(client: httpx.AsyncClient, name: str, **fields: Any) -> Any:
    response = await client.post(f"{CALLS}/{name}", json=fields)
    assert response.status_code == 200, response.text
    return response.json()


def frame(key: str, call: calls.Call, held: Held | None = None) -> frames.CallFrame:
    raw = msgspec.Raw(msgspec.json.encode(call))
    if held is None:
        return frames.CallFrame(key=key, call=raw)
    return frames.CallFrame(key=key, call=raw, task=held.task, fence=held.fence)


async def reply(peer: Peer, said: frames.CallFrame) -> Any:
    await peer.say(said)
    return msgspec.json.decode((await peer.until(frames.ReplyFrame)).reply)


async def test_people_write_and_read_over_http(hub: RunningHub) -> None:
    bob = await hub.user("bob", Role.SUBMITTER)
    async with hub.client(bob.token) as client:
        sent = await do(hub.http, "message_send", to=["bob"], body="hello")
        inbox = await do(client, "inbox_read")
        assert [letter["message"]["id"] for letter in inbox["letters"]] == [sent["message"]]
        assert (await do(client, "whoami"))["unread"] == 1
        assert await do(client, "message_ack", messages=[sent["message"]]) == {"acked": 1}
        assert (await do(client, "inbox_read")).get("letters") is None


async def test_a_repeat_over_http_sends_once(hub: RunningHub) -> None:
    bob = await hub.user("bob", Role.SUBMITTER)
    call = {"to": ["bob"], "body": "hello"}
    headers = {"Idempotency-Key": "k"}

    answers = [
        await hub.http.post(f"{CALLS}/message_send", json=call, headers=headers) for _ in range(2)
    ]

    assert answers[0].json() == answers[1].json()
    async with hub.client(bob.token) as client:
        assert len((await do(client, "inbox_read"))["letters"]) == 1


@pytest.mark.parametrize(
    ("name", "fields", "status", "code"),
    [
        ("message_send", {"to": ["nobody"], "body": "b"}, 404, "not_found"),
        ("message_send", {"to": ["ann"], "body": "b"}, 422, "invalid_input"),
        ("message_send", {"to": [], "body": "b"}, 422, "invalid_input"),
        ("message_send", {"to": ["bob"], "body": ""}, 422, "invalid_input"),
        ("message_send", {"to": ["bob"], "body": "b", "sender": "bob"}, 422, "invalid_input"),
        ("message_send", {"to": ["bob"] * 65, "body": "b"}, 422, "invalid_input"),
        ("message_send", {"to": ["bob"], "body": "ä" * 40_000}, 413, "too_large"),
        ("message_send", {"to": ["bob"], "body": "b", "reply_to": "x"}, 404, "not_found"),
        ("inbox_read", {"after": 1}, 422, "cursor_ahead"),
        ("inbox_read", {"of": "bob"}, 422, "invalid_input"),
        ("message_ack", {"messages": ["x"]}, 404, "not_found"),
    ],
)
async def test_bad_calls_are_refused_with_a_code(
    hub: RunningHub, name: str, fields: dict[str, Any], status: int, code: str
) -> None:
    await hub.user("bob", Role.SUBMITTER)

    answer = await hub.http.post(f"{CALLS}/{name}", json=fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_who_only_looks_on_reads_and_does_not_write(hub: RunningHub) -> None:
    eve = await hub.user("eve", Role.VIEWER)
    async with hub.client(eve.token) as client:
        refused = await client.post(f"{CALLS}/message_send", json={"to": ["ann"], "body": "b"})
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
        await do(client, "inbox_read")


async def test_an_agent_and_a_program_write_over_the_socket(hub: RunningHub) -> None:
    async with (
        holding(hub) as held,
        connect(
            hub.ws_url,
            additional_headers={"Authorization": f"Bearer {hub.admin_token}"},
            subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
        ) as socket,
    ):
        program = Peer(socket)
        await program.say(frames.Hello())
        await program.hear(frames.Ready)

        send = calls.MessageSend(to=("ann",), body="done", ack_required=True)
        sent = await reply(held.machine, frame("k1", send, held))
        inbox = await reply(program, frame("k2", calls.InboxRead(wait_ms=1_000)))
        (letter,) = inbox["letters"]
        assert letter["message"]["sender"] == "agent:bob"
        assert letter["message"]["task"] == held.task
        answer = calls.MessageSend(to=("bob",), body="well", reply_to=sent["message"])
        assert (await reply(program, frame("k3", answer)))["thread"] == sent["message"]
        mine = await reply(held.machine, frame("k4", calls.InboxRead(), held))
        assert [one["message"]["body"] for one in mine["letters"]] == ["well"]


async def test_a_machine_does_not_speak_for_an_attempt_that_is_not_its(hub: RunningHub) -> None:
    async with holding(hub) as held:
        other = frames.CallFrame(
            key="k", call=frame("k", calls.InboxRead()).call, task=held.task,
            fence=type(held.fence)(9, 9),
        )  # fmt: skip
        await held.machine.say(other)
        assert (await held.machine.until(frames.ErrorFrame)).code == "stale"
        await held.machine.say(frame("k", calls.InboxRead()))
        assert (await held.machine.until(frames.ErrorFrame)).code == "invalid_input"


async def test_a_letter_comes_to_the_machine_and_its_sender_sees_how_far(hub: RunningHub) -> None:
    async with holding(hub) as held:
        sent = await do(hub.http, "message_send", to=["agent:bob"], body="look at main")

        mail = await held.machine.until(frames.MailFrame)
        assert (mail.agent, [one.message.body for one in mail.letters]) == ("bob", ["look at main"])
        seqs = tuple(one.seq for one in mail.letters)
        await held.machine.say(frames.MailTaken(agent=mail.agent, seqs=seqs, seen=True))
        state = ""
        async with asyncio.timeout(PATIENCE_S):
            while state != "seen":
                shown = await do(hub.http, "message_show", message=sent["message"])
                state = shown["to"][0].get("state", "queued")


async def test_a_machine_does_not_confirm_for_others(hub: RunningHub) -> None:
    async with holding(hub) as held:
        await held.machine.say(frames.MailTaken(agent=AgentId("eve"), seqs=(1,)))
        assert (await held.machine.until(frames.ErrorFrame)).code == "not_allowed"
