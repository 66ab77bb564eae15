"""The WebSocket door: who comes in, what frames do, and what hostile ones get."""

from collections.abc import AsyncIterator
from unittest import mock

import pytest
from websockets.exceptions import InvalidStatus

from agentcom.core import facts, pool
from agentcom.hub import tokens
from agentcom.hub.limits_guard import Budgets, Traffic
from agentcom.model import limits
from agentcom.model.identity import CredentialKind, Role
from agentcom.model.ids import Fence, ProjectId, TaskId
from agentcom.model.rates import Rate
from agentcom.model.task import TaskSpec, TaskState
from agentcom.protocol import frames
from agentcom.testing.hub_site import HubSite, hub_site
from agentcom.transport import ws_session
from tests.transport.peers import SPEC, client, hello, machine, peer
from tests.transport.ws_acts import DONE, submit


@pytest.fixture
async def hub() -> AsyncIterator[HubSite]:
    async with hub_site() as site:
        yield site


@pytest.mark.parametrize("token", ["", "nonsense", "acm_usr_short"])
async def test_an_upgrade_without_a_whole_token_is_refused(hub: HubSite, token: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with peer(hub, token):
            pass

    assert refused.value.response.status_code == 401


@pytest.mark.parametrize("kind", [CredentialKind.AGENT, CredentialKind.ENROLMENT])
async def test_other_kinds_of_tokens_do_not_open_a_socket(
    hub: HubSite, kind: CredentialKind
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with peer(hub, tokens.mint(kind).text):
            pass

    assert refused.value.response.status_code == 401


async def test_a_token_that_the_hub_does_not_know_is_closed_with_4401(hub: HubSite) -> None:
    async with peer(hub, tokens.mint(CredentialKind.USER).text) as stranger:
        assert await stranger.close_code() == 4401

    assert hub.switchboard.connection_count == 0


async def test_hello_is_answered_with_the_version_that_both_speak(hub: HubSite) -> None:
    async with peer(hub, await hub.token()) as it:
        await it.say(frames.Hello(versions=(1, 2, 99)))

        ready = await it.hear(frames.Ready)

    assert (ready.version, ready.incarnation, ready.hub) == (1, 1, "test")


async def test_a_peer_without_a_common_version_is_told_so(hub: HubSite) -> None:
    async with peer(hub, await hub.token()) as it:
        error = await it.refusal(frames.Hello(versions=(98, 99)))

        assert error.code == "unsupported"
        assert await it.close_code() == 4403


async def test_the_first_frame_must_be_a_greeting(hub: HubSite) -> None:
    async with peer(hub, await hub.token()) as it:
        error = await it.refusal(submit())

        assert (error.code, error.key) == ("malformed", "k1")
        assert await it.close_code() == 1008


async def test_a_silent_peer_is_closed() -> None:
    async with hub_site(hello_ms=30) as hub, peer(hub, await hub.token()) as it:
        assert await it.close_code() == 1008


async def test_a_user_cannot_open_a_machines_session(hub: HubSite) -> None:
    async with peer(hub, await hub.token(role=Role.ADMIN)) as it:
        error = await it.refusal(hello("bob"))

        assert error.code == "not_allowed"
        assert await it.close_code() == 4403


async def test_a_machine_that_is_not_enrolled_is_turned_away(hub: HubSite) -> None:
    token = await hub.machine("laptop")
    hub.engine.view.machines.clear()

    async with machine(hub, token=token) as it:
        assert (await it.hear(frames.ErrorFrame)).code == "not_allowed"
        assert await it.close_code() == 4403

    assert not list(hub.switchboard.machines)


async def test_a_machine_that_the_hub_fails_on_is_not_shut_out(hub: HubSite) -> None:
    token = await hub.machine("laptop")
    fails = mock.Mock(side_effect=ZeroDivisionError)
    with mock.patch.dict(pool._HANDLERS, {facts.MachineConnected: fails}):
        async with machine(hub, token=token) as it:
            assert (await it.hear(frames.ErrorFrame)).code == "fault"
            assert await it.close_code() == 1011

    async with machine(hub, token=token) as it:
        await it.hear(frames.Welcome)


async def test_revocation_closes_at_once(hub: HubSite) -> None:
    async with client(hub) as it:
        (connection,) = hub.switchboard._connections.values()

        hub.switchboard.revoke(connection.identity.credential)

        assert await it.close_code() == 4401


async def test_a_submit_is_answered_with_its_tasks(hub: HubSite) -> None:
    async with client(hub) as it:
        reply = await it.ask(submit("k1", SPEC, SPEC))

    assert reply["type"] == "submitted"
    assert reply["tasks"] == reply["unschedulable"] == list(hub.engine.view.tasks)


async def test_the_same_request_again_gets_the_same_answer(hub: HubSite) -> None:
    token = await hub.token()
    async with client(hub, token) as it:
        first = await it.ask(submit("k1"))
    async with client(hub, token) as it:
        assert await it.ask(submit("k1")) == first
        assert (await it.refusal(submit("k1", SPEC, SPEC))).code == "key_reused"
        cancel = frames.CancelFrame(key="k1", task=first["tasks"][0])
        assert (await it.refusal(cancel)).code == "key_reused"

    assert len(hub.engine.view.tasks) == 1


async def test_two_people_may_use_the_same_key(hub: HubSite) -> None:
    async with client(hub) as ada, client(hub, await hub.token("bob")) as bob:
        assert await ada.ask(submit("k1")) != await bob.ask(submit("k1"))


async def test_a_task_can_be_cancelled_by_its_owner_only(hub: HubSite) -> None:
    async with client(hub) as ada, client(hub, await hub.token("bob")) as bob:
        (task,) = (await ada.ask(submit()))["tasks"]

        assert (await bob.refusal(frames.CancelFrame(key="c", task=task))).code in (
            "not_found",
            "not_allowed",
        )
        reply = await ada.ask(frames.CancelFrame(key="c", task=task))

    assert reply["task"]["state"] == TaskState.CANCELLED


async def test_a_refused_request_is_named_by_its_key(hub: HubSite) -> None:
    async with client(hub) as it:
        error = await it.refusal(submit("k1", TaskSpec(title="", prompt="p")))

    assert (error.code, error.key) == ("invalid_input", "k1")


@pytest.mark.parametrize("key", ["", "x" * 129, "a\nb"])
async def test_a_key_is_short_and_printable(hub: HubSite, key: str) -> None:
    async with client(hub) as it:
        assert (await it.refusal(submit(key))).code == "invalid_input"


async def test_a_viewer_may_follow_but_not_submit(hub: HubSite) -> None:
    async with client(hub, await hub.token("eve", Role.VIEWER)) as it:
        assert (await it.refusal(submit())).code == "not_allowed"
        assert (await it.ask(frames.Subscribe(key="s", log="*")))["type"] == "done"


async def test_what_is_over_the_budget_is_told_when_to_come_back() -> None:
    rates = {traffic: Rate(1, 60_000, 2) for traffic in Traffic}
    async with hub_site(budgets=Budgets(rates)) as hub, client(hub) as it:
        await it.ask(submit("k1", SPEC, SPEC))

        error = await it.refusal(submit("k2"))

    assert (error.code, error.key) == ("rate_limited", "k2")
    assert error.retry_after_ms is not None
    assert error.retry_after_ms > 0


async def test_requests_beyond_the_bound_are_not_read_but_all_are_answered(
    hub: HubSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws_session, "IN_FLIGHT_MAX", 4)
    monkeypatch.setattr(ws_session, "IN_FLIGHT_LOW", 1)
    async with client(hub) as it:
        await it.say(*(submit(f"k{n}") for n in range(50)))

        keys = {(await it.hear(frames.ReplyFrame)).key for _ in range(50)}

    assert len(keys) == 50


async def test_a_flood_of_reports_is_read_slowly_and_none_is_lost(
    hub: HubSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INBOX_MAX", 2)
    monkeypatch.setattr(ws_session, "BACKLOG_HIGH", 1)
    async with machine(hub) as it:
        await it.hear(frames.Welcome)
        stale = frames.Finish(task=TaskId("none"), fence=Fence(1, 1), result=DONE)

        await it.say(*[stale] * 200)

        assert all([not (await it.hear(frames.Ack)).applied for _ in range(200)])


async def test_a_subscription_that_is_ended_at_once_stays_ended(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.say(
            frames.Subscribe(key="s", log="*"),
            frames.Unsubscribe(key="u", log="*"),
        )
        assert {(await it.hear(frames.ReplyFrame)).key for _ in range(2)} == {"s", "u"}

    assert hub.feeds.follower_count == 0


async def test_a_store_that_fails_at_the_door_closes_with_1011(
    hub: HubSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await hub.token()

    async def broken(*_args: object) -> None:
        raise OSError("disk")

    monkeypatch.setattr(hub.store, "get", broken)
    async with peer(hub, token) as it:
        assert await it.close_code() == 1011


async def test_a_follower_sees_a_task_from_its_start_and_live(hub: HubSite) -> None:
    async with client(hub) as it:
        (task,) = (await it.ask(submit()))["tasks"]
        await it.ask(frames.Subscribe(key="s", log=f"task/{task}"))
        first = await it.hear(frames.EventFrame)
        await it.say(frames.CancelFrame(key="c", task=task))
        second = await it.until(frames.EventFrame)

    assert [first.event.kind, second.event.kind] == ["submitted", "cancelled"]
    assert first.seq < second.seq
    assert first.event.actor == "ada"
    assert first.event.cause.startswith("t")


async def test_who_unsubscribes_sees_nothing_more(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.ask(frames.Subscribe(key="s", log="*"))
        await it.ask(frames.Unsubscribe(key="u", log="*"))

        await it.ask(submit())  # its reply is the next frame

    assert hub.feeds.follower_count == 0


async def test_logs_of_other_projects_do_not_exist(hub: HubSite) -> None:
    async with client(hub) as it:
        (task,) = (await it.ask(submit()))["tasks"]
    token = await hub.token("eve", Role.ADMIN, project=ProjectId("other"))
    async with client(hub, token) as it:
        subscribe = frames.Subscribe(key="s", log=f"task/{task}")
        assert (await it.refusal(subscribe)).code == "not_found"
        assert (await it.refusal(frames.Subscribe(key="s", log="mail/x"))).code == "invalid_input"


async def test_a_closed_connection_leaves_no_subscription(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.ask(frames.Subscribe(key="s", log="*"))

    await hub.until(lambda: hub.switchboard.connection_count == 0)
    assert hub.feeds.follower_count == 0
