"""The WebSocket door: who comes in, what frames do, and what hostile ones get."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from agentcom.hub import feeds, tokens
from agentcom.hub.limits_guard import Budgets, Traffic
from agentcom.model import limits
from agentcom.model.agent import Held, HeldStage
from agentcom.model.identity import CredentialKind, Role
from agentcom.model.ids import Fence, ProjectId, TaskId
from agentcom.model.limits import FRAME_BYTES, PROMPT_BYTES
from agentcom.model.rates import Rate
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import Phase, StopReason, TaskSpec, TaskState
from agentcom.protocol import codec, frames
from agentcom.testing.hub_site import HubSite, hub_site
from agentcom.transport import ws_session
from tests.transport.peers import SPEC, Peer, client, hello, machine, peer

DONE = Result(status=ResultStatus.DONE, summary="done")


@pytest.fixture
async def hub() -> AsyncIterator[HubSite]:
    async with hub_site() as site:
        yield site


def submit(key: str = "k1", *specs: TaskSpec) -> frames.SubmitFrame:
    return frames.SubmitFrame(key=key, tasks=specs or (SPEC,))


# Coming in ----------------------------------------------------------------------------------------


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


async def test_revocation_closes_at_once(hub: HubSite) -> None:
    async with client(hub) as it:
        (connection,) = hub.switchboard._connections.values()

        hub.switchboard.revoke(connection.identity.credential)

        assert await it.close_code() == 4401


# Requests -----------------------------------------------------------------------------------------


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


# Following ----------------------------------------------------------------------------------------


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


# Machines -----------------------------------------------------------------------------------------


async def test_a_machine_is_welcomed_before_it_gets_work(hub: HubSite) -> None:
    async with client(hub) as ada:
        await ada.ask(submit())

        async with machine(hub) as it:
            welcome = await it.hear(frames.Welcome)
            assign = await it.hear(frames.Assign)

    assert welcome.welcomed.session == 1
    assert assign.assignment.agent == "bob"
    assert assign.body.spec == SPEC


async def run_one(it: Peer) -> frames.Ack:
    assign = await it.until(frames.Assign)
    task, fence = assign.assignment.task, assign.assignment.fence
    await it.say(
        frames.Accept(task=task, fence=fence),
        frames.Progress(task=task, fence=fence, phase=Phase.WORKING, text="reading"),
        frames.Finish(task=task, fence=fence, result=DONE),
    )
    return await it.until(frames.Ack)


async def test_a_task_runs_to_its_end_over_the_wire(hub: HubSite) -> None:
    async with client(hub) as ada, machine(hub) as it:
        await ada.ask(frames.Subscribe(key="s", log="*", progress=True))
        await ada.say(submit())
        ack = await run_one(it)
        seen = []
        activity = None
        while "completed" not in seen:
            frame = await ada.until(frames.EventFrame | frames.Activity)  # type: ignore[arg-type]
            if isinstance(frame, frames.Activity):
                activity = frame
            else:
                seen.append(frame.event.kind.value)

    assert ack.applied
    assert seen == ["submitted", "assigned", "accepted", "phase", "completed"]
    assert activity is not None
    assert (activity.text, activity.agent, activity.machine) == ("reading", "bob", "laptop")


async def test_a_heartbeat_is_answered_when_the_lease_is_renewed(hub: HubSite) -> None:
    async with machine(hub) as it:
        session = (await it.hear(frames.Welcome)).welcomed.session

        await it.say(*(frames.HeartbeatFrame(session=session, n=n) for n in (1, 2, 3)))

        assert [(await it.hear(frames.Beat)).n for _ in range(3)] == [1, 2, 3]


async def test_a_beat_names_what_is_not_the_machines_any_more(hub: HubSite) -> None:
    async with machine(hub) as it, client(hub) as ada:
        session = (await it.hear(frames.Welcome)).welcomed.session
        (task,) = (await ada.ask(submit()))["tasks"]
        fence = (await it.hear(frames.Assign)).assignment.fence
        mine = Held(task, fence, HeldStage.RUNNING)
        gone = Held(TaskId("gone"), fence, HeldStage.LANDING)
        over = Held(TaskId("over"), fence, HeldStage.FINISHED)  # its report gets an answer

        await it.say(frames.HeartbeatFrame(session=session, n=1, held=(mine, gone, over)))

        await it.hear(frames.StopFrame)
        assert (await it.hear(frames.Beat)).stale == (frames.Stale(gone.task, fence),)


async def test_no_beat_without_a_decision(hub: HubSite) -> None:
    async with machine(hub) as it:
        session = (await it.hear(frames.Welcome)).welcomed.session
        assert hub._running is not None
        hub._running.cancel()  # the engine stands still
        await asyncio.wait([hub._running])

        await it.say(frames.HeartbeatFrame(session=session, n=1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(it.socket.recv(), 0.05)

        hub._running = asyncio.create_task(hub.engine.run())
        assert (await it.hear(frames.Beat)).n == 1


async def test_a_heartbeat_of_another_session_ends_the_connection(hub: HubSite) -> None:
    async with machine(hub) as it:
        await it.hear(frames.Welcome)

        error = await it.refusal(frames.HeartbeatFrame(session=99, n=1))

        assert error.code == "superseded"
        assert await it.close_code() == 1012


async def test_a_newer_connection_of_a_machine_takes_over(hub: HubSite) -> None:
    token = await hub.machine("laptop")
    async with machine(hub, token=token) as old:
        await old.hear(frames.Welcome)
        async with machine(hub, token=token) as new:
            await new.hear(frames.Welcome)

            assert await old.close_code() == 4409
            async with client(hub) as ada:
                await ada.ask(submit())
            await new.hear(frames.Assign)


async def test_a_machine_that_goes_is_offline(hub: HubSite) -> None:
    async with machine(hub) as it:
        await it.hear(frames.Welcome)
    await hub.until(lambda: hub.switchboard.connection_count == 0)
    await hub.engine.drained()

    (session,) = hub.engine.view.sessions.values()
    assert session.connection is None


async def test_a_machine_cannot_report_on_anothers_attempt(hub: HubSite) -> None:
    async with client(hub) as ada, machine(hub) as it, machine(hub, "thief", agents=()) as thief:
        await thief.hear(frames.Welcome)
        await ada.ask(submit())
        held = (await it.until(frames.Assign)).assignment

        await thief.say(frames.Finish(task=held.task, fence=held.fence, result=DONE))
        ack = await thief.hear(frames.Ack)

    assert not ack.applied
    assert hub.engine.view.tasks[held.task].state is TaskState.ASSIGNED


async def test_a_cancelled_attempt_is_told_to_stop(hub: HubSite) -> None:
    async with client(hub) as ada, machine(hub) as it:
        await ada.ask(submit())
        held = (await it.until(frames.Assign)).assignment
        await it.say(frames.Accept(task=held.task, fence=held.fence))

        await ada.ask(frames.CancelFrame(key="c", task=held.task))

        stop = await it.hear(frames.StopFrame)
        assert (stop.task, stop.fence, stop.reason) == (
            held.task, held.fence, StopReason.CANCELLED,
        )  # fmt: skip
        await it.say(frames.StoppedFrame(task=held.task, fence=held.fence))
        assert (await it.hear(frames.Ack)).applied


async def test_every_report_gets_its_answer(hub: HubSite) -> None:
    async with client(hub) as ada, machine(hub) as it:
        await ada.ask(submit())
        held = (await it.until(frames.Assign)).assignment
        await it.say(frames.Accept(task=held.task, fence=held.fence))

        await it.say(frames.Checkpoint(task=held.task, fence=held.fence, commit="c" * 40))
        assert (await it.hear(frames.Ack)).applied

        stale = Fence(held.fence.incarnation, 0)
        await it.say(frames.Decline(task=held.task, fence=held.fence, reason="r" * 9_999))
        await it.say(frames.Accept(task=TaskId("none"), fence=stale))
        assert (await it.until(frames.StopFrame)).reason is None


async def test_a_machines_session_does_not_take_requests(hub: HubSite) -> None:
    async with machine(hub) as it:
        await it.hear(frames.Welcome)

        assert (await it.refusal(submit())).code == "not_allowed"
        assert (await it.refusal(hello("bob"))).code == "malformed"


async def test_a_machine_asks_for_sub_tasks_of_an_attempt_that_it_holds(hub: HubSite) -> None:
    async with machine(hub) as it, client(hub) as person:
        await it.hear(frames.Welcome)
        await person.ask(submit())
        assignment = (await it.hear(frames.Assign)).assignment
        await it.say(frames.Accept(task=assignment.task, fence=assignment.fence))
        asked = frames.SubmitFrame(
            key="sub/1", tasks=(SPEC,), parent=assignment.task, fence=assignment.fence
        )

        made = await it.ask(asked)
        again = await it.ask(asked)
        foreign = msgspec.structs.replace(asked, key="sub/2", fence=Fence(1, 99))
        refused = await it.refusal(foreign)
        by_a_person = await person.refusal(msgspec.structs.replace(asked, key="k9"))
        unnamed = await it.refusal(submit("sub/3"))

    assert made == again
    assert len(made["tasks"]) == 1
    assert (refused.code, refused.key) == ("stale", "sub/2")
    assert (by_a_person.code, unnamed.code) == ("not_allowed", "not_allowed")


async def test_a_clients_session_does_not_take_reports(hub: HubSite) -> None:
    async with client(hub, await hub.machine("laptop")) as it:
        report = frames.Finish(task=TaskId("t"), fence=Fence(1, 1), result=DONE)

        assert (await it.refusal(report)).code == "not_allowed"
        assert (await it.refusal(submit())).code == "not_allowed"


# Hostile input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b'{"type":"dance"}', "unsupported"),
        (b"{}", "invalid_input"),
        (b"[]", "invalid_input"),
        (b"not json", "malformed"),
        (b"", "malformed"),
        (b'{"type":"submit","key":"k"}', "invalid_input"),
        (b'{"type":"submit","key":"k","tasks":[]}', "invalid_input"),
        (b'{"type":"submit","key":"k","tasks":"x"}', "invalid_input"),
        (b'{"type":"cancel","key":5,"task":"t"}', "invalid_input"),
        (b'{"type":"hello"}', "malformed"),
        (b'{"type":"subscribe","key":"k","log":"*","after":1e400}', None),
        (b"[" * 5_000, None),
        (b'{"type":"submit","key":"k","tasks":[' + b'{"title":' * 3_000, None),
    ],
)
async def test_a_frame_that_makes_no_sense_is_refused_and_forgotten(
    hub: HubSite, payload: bytes, code: str | None
) -> None:
    async with client(hub) as it:
        error = await it.refusal(payload)

        assert code in (None, error.code)
        await it.ask(submit())


async def test_unknown_fields_are_ignored(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.say(
            b'{"type":"submit","key":"k","tasks":[{"title":"t","prompt":"p","x":1}],"y":2}'
        )

        await it.hear(frames.ReplyFrame)


async def test_twenty_senseless_frames_in_a_row_are_enough(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.say(*[b"nonsense"] * 19)
        await it.say(submit())  # sense in between counts anew
        await it.say(*[b"nonsense"] * 20)

        assert await it.close_code() == 1008


async def test_unknown_types_are_no_offence(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.say(*[b'{"type":"from_the_future"}'] * 40)
        for _ in range(40):
            await it.hear(frames.ErrorFrame)

        await it.ask(submit())


async def test_a_frame_over_the_limit_closes_with_1009(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.say(b"x" * (FRAME_BYTES + 1))

        assert await it.close_code() == 1009


async def test_the_largest_greeting_is_taken(hub: HubSite) -> None:
    async with machine(hub, agents=tuple(f"a{n}" for n in range(64))) as it:
        await it.hear(frames.Welcome)
    token = await hub.machine("other")
    async with peer(hub, token) as it:
        labels = {f"{n}": "x" * 1_000 for n in range(200)}
        frame = codec.encode(hello("z"))
        big = frame.replace(b'"runtime"', b'"labels":' + str(labels).replace("'", '"').encode()
                            + b',"runtime"')  # fmt: skip
        assert 200_000 < len(big) < FRAME_BYTES
        await it.say(big)
        await it.hear(frames.Welcome)


async def test_text_that_is_no_utf8_closes_with_1007(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.say(b'{"type":"\xff\xfe"}')

        assert await it.close_code() == 1007


async def test_binary_messages_are_not_spoken_here(hub: HubSite) -> None:
    async with client(hub) as it:
        await it.socket.send(codec.encode(submit()))

        assert await it.close_code() == 1003


async def test_a_prompt_over_its_bound_is_refused(hub: HubSite) -> None:
    async with client(hub) as it:
        error = await it.refusal(submit("k", TaskSpec(title="t", prompt="x" * (PROMPT_BYTES + 1))))

    assert (error.code, error.key) == ("invalid_input", "k")


async def test_a_reader_that_is_too_slow_is_closed_and_resumes(
    hub: HubSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await hub.token()
    async with client(hub, token) as slow:
        await slow.ask(frames.Subscribe(key="s", log="*"))
        monkeypatch.setattr(feeds, "SLOW_BYTES", -1)  # whatever is on its way is too much

        await slow.say(submit())

        assert await slow.close_code() == 4408
    monkeypatch.undo()
    async with client(hub, token) as again:
        await again.ask(frames.Subscribe(key="s", log="*"))
        assert (await again.hear(frames.EventFrame)).seq == 1


# The hub goes -------------------------------------------------------------------------------------


async def test_a_hub_that_stops_says_when_to_come_back(hub: HubSite) -> None:
    async with client(hub) as it:
        hub.switchboard.drain(hub.engine._rng)

        assert (await it.hear(frames.Drain)).retry_after_ms >= 1_000
        assert await it.close_code() == 1012


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    sqlite = pytest.importorskip("agentcom.store.sqlite")
    path = tmp_path / "hub.db"
    async with hub_site(sqlite.SqliteStore(path)) as hub, client(hub) as it:
        (task,) = (await it.ask(submit()))["tasks"]
        token = await hub.token("bob", Role.VIEWER)

    async with hub_site(sqlite.SqliteStore(path)) as hub, client(hub, token) as it:
        await it.ask(frames.Subscribe(key="s", log=f"task/{task}"))
        assert (await it.hear(frames.EventFrame)).event.kind == "submitted"
