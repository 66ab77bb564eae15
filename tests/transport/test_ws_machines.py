"""Machines on the socket: sessions, heartbeats, reports."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from agentcom.model.agent import Held, HeldStage
from agentcom.model.ids import Fence, TaskId
from agentcom.model.task import Phase, StopReason, TaskState
from agentcom.protocol import frames
from agentcom.testing.hub_site import HubSite, hub_site
from tests.transport.peers import SPEC, Peer, client, hello, machine
from tests.transport.ws_acts import DONE, submit


@pytest.fixture
async def hub() -> AsyncIterator[HubSite]:
    async with hub_site() as site:
        yield site


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
