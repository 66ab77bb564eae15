import pytest

from agentcom.core import channels
from agentcom.core.channels import Archived
from agentcom.model import limits
from agentcom.model.address import Address, AddressKind
from agentcom.model.channel import Channel, ChannelKind, ChannelRole, Notify, Reader
from agentcom.model.errors import Conflict, InvalidInput, NotAllowed
from agentcom.model.ids import ProjectId, WallTime

ANN = Address("user:ann")
DEV = Channel(name="dev", created_by=ANN, created_at=WallTime(1))
OWN = channels.of_project(ProjectId("p"))


def reader(role: ChannelRole) -> Reader:
    return Reader(channel="dev", address=ANN, joined_at=WallTime(1), role=role)


def change(channel: Channel, **more: object) -> Channel:
    asked = {"topic": None, "archived": None, "pin": None, "unpin": None, "at": WallTime(9)}
    return channels.changed(channel, **{**asked, **more})  # type: ignore[arg-type]  # checked there


@pytest.mark.parametrize("name", ["", "a/b", "Dev", "-a", "a b", "x" * 64, "dev\n"])
def test_names_that_no_channel_may_have(name: str) -> None:
    with pytest.raises(InvalidInput, match="channel"):
        channels.check_name(name)


def test_people_are_told_of_everything_and_agents_of_mentions() -> None:
    assert channels.told_of(ANN) is Notify.ALL
    assert channels.told_of(Address("agent:bob")) is Notify.MENTIONS


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("@bob look", ["bob"]),
        ("(@bob), @eve. @bob!", ["bob", "eve"]),
        ("see @bob-2's and @eve-", ["bob-2", "eve"]),
        ("mail bob@example.org or a@b, https://x.org/@bob", []),
        ("@Bob @", []),
        ("Übung@bob", []),
    ],
)
def test_who_is_mentioned(text: str, names: list[str]) -> None:
    assert [name for _, name in channels.mentions(text)] == names


def test_a_mention_may_say_what_it_means() -> None:
    found = channels.mentions("@agent:bob @user:bob @bob")

    assert found == ((AddressKind.AGENT, "bob"), (AddressKind.USER, "bob"), (None, "bob"))


def test_mentions_are_bounded() -> None:
    names = [f"@a{n}" for n in range(limits.RECIPIENTS_MAX + 1)]

    assert len(channels.mentions(" ".join(names[1:]))) == limits.RECIPIENTS_MAX
    with pytest.raises(InvalidInput, match="body"):
        channels.mentions(" ".join(names))


def test_who_only_reads_does_not_post_and_does_not_get_around_it_by_leaving() -> None:
    channels.check_post(DEV, None)
    channels.check_post(DEV, reader(ChannelRole.MEMBER))
    channels.check_leave(DEV, reader(ChannelRole.OWNER))
    for check in (channels.check_post, channels.check_leave):
        with pytest.raises(NotAllowed):
            check(DEV, reader(ChannelRole.READER))


def test_nobody_leaves_the_projects_own_channel_archives_or_deletes_it() -> None:
    with pytest.raises(Conflict):
        channels.check_leave(OWN, None)
    with pytest.raises(Conflict):
        change(OWN, archived=True)
    with pytest.raises(Conflict):
        channels.check_delete(OWN)


def test_an_archived_channel_is_read_only_until_it_is_reopened_and_may_be_deleted() -> None:
    old = change(DEV, archived=True)

    with pytest.raises(Archived):
        channels.check_post(old, reader(ChannelRole.OWNER))
    with pytest.raises(Conflict, match="archive"):
        channels.check_delete(DEV)
    channels.check_delete(old)
    again = change(old, archived=False)
    channels.check_post(again, None)
    assert (old.archived_at, again.archived_at, again.version) == (9, None, 3)


def test_to_archive_again_changes_nothing_of_when() -> None:
    old = change(change(DEV, archived=True), archived=True, at=WallTime(20))

    assert old.archived_at == 9


def test_pins_stay_in_the_order_in_which_they_came() -> None:
    pinned = change(change(change(DEV, pin=5), pin=2), pin=5)

    assert pinned.pins == (5, 2)
    assert change(pinned, unpin=5).pins == (2,)
    with pytest.raises(InvalidInput, match="unpin"):
        change(pinned, unpin=4)


def test_pins_are_bounded() -> None:
    full = change(DEV, topic="t")
    for seq in range(1, limits.PINS_MAX + 1):
        full = change(full, pin=seq)

    with pytest.raises(Conflict, match="pins"):
        change(full, pin=99)
    assert change(full, unpin=1, pin=99).pins[-1] == 99
    assert (full.topic, full.kind) == ("t", ChannelKind.PUBLIC)
