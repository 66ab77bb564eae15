import asyncio
from pathlib import Path

import msgspec
import pytest

from agentcom.core.channels import PROJECT_CHANNEL
from agentcom.hub import channels as module
from agentcom.hub.rows import write
from agentcom.model import limits
from agentcom.model.address import Address
from agentcom.model.batch import Insert, Table
from agentcom.model.channel import ChannelKind, ChannelRole, Notify
from agentcom.model.errors import Conflict, InvalidInput, NotAllowed, NotFound
from agentcom.model.identity import User
from agentcom.model.ids import TaskId, UserId, WallTime
from agentcom.model.message import channel_log
from agentcom.model.task import Task, TaskState
from agentcom.protocol import calls
from agentcom.protocol.calls import Call
from tests.hub.channel_house import ANN, BOB, EVE, OPS, STRANGER, House, agent, build
from tests.hub.doubles import CountingIds

READER = ChannelRole.READER
OF_OTHERS: tuple[Call, ...] = (
    calls.ChannelShow(channel="den"),
    calls.ChannelPost(channel="den", body="hello"),
    calls.ChannelHistory(channel="den"),
    calls.ChannelJoin(channel="den"),
    calls.ChannelLeave(channel="den"),
    calls.ChannelMember(channel="den", name="eve"),
    calls.ChannelChange(channel="den", topic="mine"),
    calls.ChannelDelete(channel="den"),
)


@pytest.fixture
async def house(tmp_path: Path) -> House:
    return await build(tmp_path)


async def test_whoever_makes_a_channel_owns_it(house: House) -> None:
    made = await house.create("dev", topic="all of it")

    shown = await house.show("dev", EVE)
    assert (made.joined, shown.joined, shown.channel.topic) == (True, False, "all of it")
    assert [(one.address, one.role) for one in shown.members] == [("user:ann", ChannelRole.OWNER)]


async def test_a_name_is_taken_once(house: House) -> None:
    await house.create("dev")

    for name in ("dev", PROJECT_CHANNEL):
        with pytest.raises(Conflict, match="taken"):
            await house.create(name, EVE)
    await house.create("dev", STRANGER)  # another project's
    assert await house.names(EVE) == ["dev", PROJECT_CHANNEL]


async def test_two_who_make_the_same_channel_at_once_do_not_both_get_it(house: House) -> None:
    made = await asyncio.gather(
        house.create("dev"), house.create("dev", EVE), return_exceptions=True
    )

    assert [type(one) for one in made].count(Conflict) == 1
    assert len((await house.show("dev")).members) == 1


async def test_for_others_a_private_channel_does_not_exist(house: House) -> None:
    await house.create("den", kind=ChannelKind.PRIVATE)
    await house.post("den", "secret")
    unknown = [msgspec.structs.replace(call, channel="nope") for call in OF_OTHERS]

    said = {}
    for who in (EVE, OPS, BOB):
        for call, other in zip(OF_OTHERS, unknown, strict=True):
            for asked in (call, other):
                with pytest.raises(NotFound) as refusal:
                    await house.do(who, asked)
                name = asked.channel  # type: ignore[attr-defined]  # all of them have it
                said[who.address, type(asked), name] = refusal.value.message.replace(name, "NAME")
    assert len(set(said.values())) == 1
    assert await house.names(EVE) == await house.names(OPS) == [PROJECT_CHANNEL]
    assert await house.texts("den") == ["secret"]


async def test_a_listing_does_not_tell_a_name_that_is_not_to_be_seen(house: House) -> None:
    for name in ("a", "b", "c", "e"):
        await house.create(name, kind=ChannelKind.PRIVATE if name in "bc" else ChannelKind.PUBLIC)

    page = await house.do(EVE, calls.ChannelList(limit=1))
    assert (page.channels[0].channel.name, page.next) == ("a", "a")
    assert await house.names(EVE, limit=1) == ["a", "e", PROJECT_CHANNEL]


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_all_channels_are_listed_once_in_order(
    house: House, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    names = ["a", "b", "m", "q", "z"]
    for name in names:
        await house.create(name)

    assert await house.names(EVE, limit=limit) == sorted([*names, PROJECT_CHANNEL])


async def test_archived_ones_are_listed_if_asked_for_and_joined_ones_alone(house: House) -> None:
    await house.create("old")
    await house.create("dev")
    await house.do(ANN, calls.ChannelChange(channel="old", archived=True))

    assert await house.names() == ["dev", PROJECT_CHANNEL]
    assert await house.names(archived=True) == ["dev", "old", PROJECT_CHANNEL]
    assert await house.names(EVE, joined=True, archived=True) == [PROJECT_CHANNEL]


async def test_who_is_added_to_a_private_channel_sees_it_and_who_is_removed_does_not(
    house: House,
) -> None:
    await house.create("den", kind=ChannelKind.PRIVATE)
    await house.post("den", "first")
    await house.do(ANN, calls.ChannelMember(channel="den", name="bob"))

    assert await house.texts("den", BOB) == ["first"]
    await house.do(ANN, calls.ChannelMember(channel="den", name="bob", role=None))
    with pytest.raises(NotFound):
        await house.texts("den", BOB)


async def test_only_an_owner_or_an_operator_changes_a_channel(house: House) -> None:
    await house.create("dev")
    await house.do(EVE, calls.ChannelJoin(channel="dev"))

    for call in (
        calls.ChannelChange(channel="dev", topic="mine"),
        calls.ChannelMember(channel="dev", name="eve", role=ChannelRole.OWNER),
        calls.ChannelDelete(channel="dev"),
    ):
        with pytest.raises(NotAllowed):
            await house.do(EVE, call)
    await house.do(OPS, calls.ChannelChange(channel="dev", topic="for all"))
    await house.do(ANN, calls.ChannelMember(channel="dev", name="eve", role=ChannelRole.OWNER))
    await house.do(EVE, calls.ChannelChange(channel="dev", topic="hers, too"))
    assert (await house.show("dev")).channel.topic == "hers, too"


async def test_a_channel_always_has_an_owner(house: House) -> None:
    await house.create("dev")
    await house.do(EVE, calls.ChannelJoin(channel="dev"))
    leave = calls.ChannelLeave(channel="dev")
    demote = calls.ChannelMember(channel="dev", name="user:ann", role=ChannelRole.MEMBER)

    for call in (leave, demote):
        with pytest.raises(Conflict, match="own"):
            await house.do(ANN, call)
    await house.do(ANN, calls.ChannelMember(channel="dev", name="eve", role=ChannelRole.OWNER))
    await house.do(ANN, leave)
    assert [one.address for one in (await house.show("dev")).members] == ["user:eve"]


async def test_to_leave_twice_is_harmless(house: House) -> None:
    await house.create("dev")
    await house.do(EVE, calls.ChannelJoin(channel="dev"))

    for _ in range(2):
        await house.do(EVE, calls.ChannelLeave(channel="dev"))
    assert len((await house.show("dev")).members) == 1


async def test_a_name_that_means_two_is_not_guessed(house: House) -> None:
    await house.create("dev", EVE)

    with pytest.raises(InvalidInput, match="two"):
        await house.do(EVE, calls.ChannelMember(channel="dev", name="ann"))
    for unknown in ("nobody", "agent:eve", "user:zoe"):
        with pytest.raises(NotFound):
            await house.do(EVE, calls.ChannelMember(channel="dev", name=unknown))
    await house.do(EVE, calls.ChannelMember(channel="dev", name="agent:ann"))
    assert [one.address for one in (await house.show("dev")).members] == ["agent:ann", "user:eve"]


async def test_joining_again_changes_what_one_is_told_and_not_ones_role(house: House) -> None:
    await house.create("dev")

    await house.do(ANN, calls.ChannelJoin(channel="dev", notify=Notify.NONE))
    await house.do(ANN, calls.ChannelJoin(channel="dev"))
    await house.do(BOB, calls.ChannelJoin(channel="dev"))

    members = {one.address: one for one in (await house.show("dev")).members}
    own, bob = members[ANN.address], members[BOB.address]
    assert (own.role, own.notify) == (ChannelRole.OWNER, Notify.NONE)
    assert (bob.role, bob.notify) == (ChannelRole.MEMBER, Notify.MENTIONS)


async def test_everyone_is_a_member_of_the_projects_own_channel(house: House) -> None:
    await house.do(OPS, calls.ChannelMember(channel=PROJECT_CHANNEL, name="kim", role=READER))

    shown = await house.show(PROJECT_CHANNEL, BOB)
    roles = {one.address: one.role for one in shown.members}
    people = ["user:ann", "user:eve", "user:ops"]
    assert [*roles] == ["agent:ann", "agent:bob", "agent:kim", *people]
    assert roles[Address("agent:kim")] is ChannelRole.READER
    assert shown.joined
    with pytest.raises(NotAllowed):
        await house.post(PROJECT_CHANNEL, "hello", who=agent("kim"))
    with pytest.raises(Conflict):
        await house.do(OPS, calls.ChannelMember(channel=PROJECT_CHANNEL, name="kim", role=None))


async def test_the_projects_own_channel_can_be_changed_by_an_operator(house: House) -> None:
    await house.post(PROJECT_CHANNEL, "rules")

    await house.do(OPS, calls.ChannelChange(channel=PROJECT_CHANNEL, topic="us", pin=1))
    await house.do(OPS, calls.ChannelChange(channel=PROJECT_CHANNEL, topic="all of us"))

    shown = await house.show(PROJECT_CHANNEL)
    assert (shown.channel.topic, shown.channel.kind) == ("all of us", ChannelKind.PROJECT)
    assert [letter.message.body for letter in shown.pinned] == ["rules"]


async def test_only_a_post_that_is_there_is_pinned(house: House) -> None:
    await house.create("dev")
    await house.post("dev", "one")

    for seq in (0, 2):
        with pytest.raises(InvalidInput, match="pin"):
            await house.do(ANN, calls.ChannelChange(channel="dev", pin=seq))


async def test_a_tasks_channel_is_owned_by_whoever_asked_for_it(house: House) -> None:
    row = Task(TaskId("t1"), ANN.project, UserId("eve"), "t", TaskState.QUEUED, WallTime(1))
    assert await write(house.store, CountingIds(), Insert(Table.TASK, "t1", row))

    await house.create("t1-talk", BOB, kind=ChannelKind.TASK, task="t1")

    shown = await house.show("t1-talk", agent("kim", "t1"))
    assert (shown.channel.task, shown.joined) == ("t1", True)
    assert {one.address: one.role for one in shown.members} == {
        "agent:bob": ChannelRole.OWNER,
        "user:eve": ChannelRole.OWNER,
    }


@pytest.mark.parametrize(
    ("kind", "task", "wrong"),
    [
        (ChannelKind.TASK, None, InvalidInput),
        (ChannelKind.PUBLIC, "t1", InvalidInput),
        (ChannelKind.PROJECT, None, InvalidInput),
        (ChannelKind.TASK, "nope", NotFound),
    ],
)
async def test_kinds_that_do_not_fit_are_refused(
    house: House, kind: ChannelKind, task: str | None, wrong: type[Exception]
) -> None:
    with pytest.raises(wrong):
        await house.create("dev", kind=kind, task=task)
    assert await house.rows(Table.CHANNEL) == 0


async def test_channels_and_members_are_bounded(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHANNELS_MAX", 2)
    monkeypatch.setattr(limits, "CHANNEL_MEMBERS_MAX", 2)
    await house.create("a")
    await house.create("b")
    with pytest.raises(Conflict, match="channels"):
        await house.create("c")

    await house.do(EVE, calls.ChannelJoin(channel="a"))
    with pytest.raises(Conflict, match="members"):
        await house.do(BOB, calls.ChannelJoin(channel="a"))
    await house.do(EVE, calls.ChannelLeave(channel="a"))
    await house.do(BOB, calls.ChannelJoin(channel="a"))


async def test_only_an_archived_channel_is_deleted_and_nothing_of_it_is_left(house: House) -> None:
    await house.create("dev")
    await house.post("dev", "one", "two")
    await house.do(EVE, calls.ChannelJoin(channel="dev"))
    with pytest.raises(Conflict, match="archive"):
        await house.do(ANN, calls.ChannelDelete(channel="dev"))

    await house.do(ANN, calls.ChannelChange(channel="dev", archived=True))
    await house.do(ANN, calls.ChannelDelete(channel="dev"))

    with pytest.raises(NotFound):
        await house.show("dev")
    left = [await house.rows(table) for table in (Table.MESSAGE, Table.ENTRY, Table.READER)]
    assert (left, await house.rows(Table.CHANNEL)) == ([0, 0, 0], 0)
    await house.create("dev", EVE)
    assert (await house.post("dev", "anew", who=EVE)).seq == 1


async def test_a_large_channel_goes_bit_by_bit(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PRUNE_ROWS", 2)
    monkeypatch.setattr(module, "PRUNE_NOW", 1)
    await house.create("dev")
    await house.create("other")
    await house.post("dev", *"abcde")
    await house.post("other", "stays")
    await house.do(ANN, calls.ChannelChange(channel="dev", archived=True))
    await house.do(ANN, calls.ChannelDelete(channel="dev"))

    assert await house.names() == ["other", PROJECT_CHANNEL]
    with pytest.raises(Conflict, match="taken"):
        await house.create("dev")  # until it is gone
    assert await house.rows(Table.MESSAGE) == 4

    await house.channels.prune(WallTime(house.clock.wall))
    assert await house.texts("other") == ["stays"]
    assert await house.rows(Table.MESSAGE) == 1
    await house.create("dev")


async def test_a_deleted_post_stays_with_whoever_has_it_in_a_mailbox(house: House) -> None:
    await house.create("dev")
    await house.post("dev", "@bob look")
    await house.do(ANN, calls.ChannelChange(channel="dev", archived=True))

    await house.do(ANN, calls.ChannelDelete(channel="dev"))

    inbox = await house.do(BOB, calls.InboxRead())
    assert [letter.message.body for letter in inbox.letters] == ["@bob look"]
    assert await house.rows(Table.ENTRY, f"{channel_log(ANN.project, 'dev')}/") == 0


async def test_a_new_channel_of_a_deleted_ones_name_does_not_show_its_posts(house: House) -> None:
    await house.create("den", kind=ChannelKind.PRIVATE)
    await house.do(ANN, calls.ChannelMember(channel="den", name="bob"))
    secret = await house.post("den", "@bob secret")
    await house.do(ANN, calls.ChannelChange(channel="den", archived=True))
    await house.do(ANN, calls.ChannelDelete(channel="den"))

    await house.create("den", EVE)

    with pytest.raises(NotFound):
        await house.do(EVE, calls.MessageShow(message=secret.message))
    shown = await house.do(BOB, calls.MessageShow(message=secret.message))
    assert (shown.message.body, shown.message.channel) == ("@bob secret", "")


async def test_a_removed_person_is_nobody(house: House) -> None:
    row = User(id=UserId("max"), role=ANN.identity.role, created_at=WallTime(1), removed=True)
    assert await write(house.store, CountingIds(), Insert(Table.USER, "max", row))
    await house.create("dev")

    with pytest.raises(NotFound):
        await house.do(ANN, calls.ChannelMember(channel="dev", name="max"))
