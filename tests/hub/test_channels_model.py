"""Channels against a model: whatever people do, all see what the model says, and nothing else."""

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentcom.hub.speaking import Speaker
from agentcom.model.batch import Table
from agentcom.model.channel import ChannelKind, ChannelRole
from agentcom.model.errors import AgentComError
from agentcom.protocol import calls
from tests.hub.channel_house import ANN, BOB, EVE, House, build

PEOPLE = {"ann": ANN, "eve": EVE, "bob": BOB}
ADDRESSES = {name: who.address for name, who in PEOPLE.items()}
NAMES = ("dev", "den")
OWNER, MEMBER, READER = ChannelRole.OWNER, ChannelRole.MEMBER, ChannelRole.READER

people = st.sampled_from(sorted(PEOPLE))
names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("create"), people, names, st.booleans()),
    st.tuples(st.just("post"), people, names),
    st.tuples(st.just("read"), people, names, st.booleans()),
    st.tuples(st.just("join"), people, names),
    st.tuples(st.just("leave"), people, names),
    st.tuples(st.just("give"), people, names, people, st.sampled_from([*ChannelRole, None])),
    st.tuples(st.just("archive"), people, names, st.booleans()),
    st.tuples(st.just("delete"), people, names),
)


@dataclass
class Room:
    """A channel as it should be."""

    private: bool
    roles: dict[str, ChannelRole]
    posts: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    archived: bool = False

    def shows(self, who: str) -> bool:
        return not self.private or who in self.roles

    def owned_without(self, who: str) -> bool:
        return any(role is OWNER for name, role in self.roles.items() if name != who)


class Model:
    """What should come of each step: the answer, or None if it is refused."""

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}
        self.count = 0

    def create(self, who: str, name: str, private: bool) -> bool:
        if name in self.rooms:
            return False
        self.rooms[name] = Room(private, {who: OWNER})
        return True

    def post(self, who: str, name: str) -> bool:
        room = self._room(who, name)
        if room is None or room.archived or room.roles.get(who) is READER:
            return False
        self.count += 1
        room.posts.append(f"post {self.count}")
        if who in room.roles and room.seen.get(who, 0) == len(room.posts) - 1:
            room.seen[who] = len(room.posts)
        return True

    def read(self, who: str, name: str, unread: bool) -> list[str] | None:
        room = self._room(who, name)
        if room is None:
            return None
        posts = room.posts[room.seen.get(who, 0) :] if unread else room.posts
        if who in room.roles:
            room.seen[who] = len(room.posts)
        return list(posts)

    def join(self, who: str, name: str) -> bool:
        room = self._room(who, name)
        if room is not None:
            room.roles.setdefault(who, MEMBER)
        return room is not None

    def leave(self, who: str, name: str) -> bool:
        room = self._room(who, name)
        if room is None or (room.roles.get(who) is READER and not room.private):
            return False
        return self._remove(room, who)

    def give(self, who: str, name: str, whom: str, role: ChannelRole | None) -> bool:
        room = self._room(who, name)
        if room is None or room.roles.get(who) is not OWNER:
            return False
        if role is None:
            return self._remove(room, whom)
        if room.roles.get(whom) is OWNER and role is not OWNER and not room.owned_without(whom):
            return False
        room.roles[whom] = role
        return True

    def archive(self, who: str, name: str, archived: bool) -> bool:
        room = self._room(who, name)
        if room is None or room.roles.get(who) is not OWNER:
            return False
        room.archived = archived
        return True

    def delete(self, who: str, name: str) -> bool:
        room = self._room(who, name)
        if room is None or room.roles.get(who) is not OWNER or not room.archived:
            return False
        del self.rooms[name]
        return True

    def _room(self, who: str, name: str) -> Room | None:
        room = self.rooms.get(name)
        return room if room is not None and room.shows(who) else None

    def _remove(self, room: Room, who: str) -> bool:
        if room.roles.get(who) is OWNER and not room.owned_without(who):
            return False
        room.roles.pop(who, None)
        room.seen.pop(who, None)
        return True


def call_of(kind: str, model: Model, name: str, *more: Any) -> calls.Call:
    match kind:
        case "create":
            private = ChannelKind.PRIVATE if more[0] else ChannelKind.PUBLIC
            return calls.ChannelCreate(channel=name, kind=private)
        case "post":
            return calls.ChannelPost(channel=name, body=f"post {model.count + 1}")
        case "read":
            return calls.ChannelHistory(
                channel=name, unread=more[0], after=None if more[0] else 0, limit=100
            )
        case "join":
            return calls.ChannelJoin(channel=name)
        case "leave":
            return calls.ChannelLeave(channel=name)
        case "give":
            return calls.ChannelMember(channel=name, name=ADDRESSES[more[0]], role=more[1])
        case "archive":
            return calls.ChannelChange(channel=name, archived=more[0])
        case _:
            return calls.ChannelDelete(channel=name)


async def do(house: House, who: Speaker, call: calls.Call) -> Any:
    """Return what a step comes to: False if it is refused, the texts of what was read."""
    try:
        answer = await house.do(who, call)
    except AgentComError:
        return None if isinstance(call, calls.ChannelHistory) else False
    if isinstance(call, calls.ChannelHistory):
        return [letter.message.body for letter in answer.letters]
    return True


async def compare(house: House, model: Model) -> None:
    """Everyone sees exactly the channels of the model, with its members and counts."""
    for name, who in PEOPLE.items():
        listed = await house.do(who, calls.ChannelList(archived=True))
        found = {one.channel.name: one for one in listed.channels}
        del found["project"]
        assert found.keys() == {room for room, it in model.rooms.items() if it.shows(name)}
        for room, one in found.items():
            wanted = model.rooms[room]
            place = (len(wanted.posts), wanted.seen.get(name, 0), name in wanted.roles)
            assert (one.seq, one.seen, one.joined) == place
            members = (await house.show(room, who)).members
            roles = {ADDRESSES[member]: role for member, role in wanted.roles.items()}
            assert {member.address: member.role for member in members} == roles


async def play(acts: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        house, model = await build(Path(folder)), Model()
        for kind, who, name, *more in acts:
            call = call_of(kind, model, name, *more)
            came = await do(house, PEOPLE[who], call)
            assert came == getattr(model, kind)(who, name, *more), (kind, who, name, more)
            await compare(house, model)
        posts = sum(len(room.posts) for room in model.rooms.values())
        assert [await house.rows(table) for table in (Table.MESSAGE, Table.ENTRY)] == [posts] * 2


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=25))
def test_whatever_people_do_channels_are_as_the_model_says(acts: list[tuple[Any, ...]]) -> None:
    asyncio.run(play(acts))
