from pathlib import Path

import pytest

from agentcom.core.channels import PROJECT_CHANNEL, Archived
from agentcom.hub.writing import Asked
from agentcom.model import limits
from agentcom.model.batch import Table
from agentcom.model.channel import ChannelKind, ChannelRole, Notify
from agentcom.model.errors import (
    CursorAhead,
    InvalidInput,
    KeyReused,
    NotAllowed,
    NotFound,
    TooLarge,
)
from agentcom.model.message import Attachment, Message, Why
from agentcom.protocol import calls
from tests.hub.channel_house import ANN, BOB, EVE, OPS, STRANGER, House, agent, build


@pytest.fixture
async def house(tmp_path: Path) -> House:
    it = await build(tmp_path)
    await it.create("dev")
    return it


async def test_a_post_is_one_message_and_one_place_however_many_read_it(house: House) -> None:
    for who in (EVE, BOB, OPS):
        await house.do(who, calls.ChannelJoin(channel="dev"))

    sent = await house.post("dev", "hello", who=BOB)

    assert (await house.rows(Table.MESSAGE), await house.rows(Table.ENTRY)) == (1, 1)
    (letter,) = (await house.do(EVE, calls.ChannelHistory(channel="dev"))).letters
    message = letter.message
    assert (letter.seq, message.id, message.sender, message.task) == (
        1,
        sent.message,
        "agent:bob",
        "t1",
    )
    assert (message.channel, message.project, message.at) == ("dev", "default", house.clock.wall)


async def test_places_have_no_gaps(house: House) -> None:
    sent = [await house.post("dev", str(n)) for n in range(5)]

    assert [one.seq for one in sent] == [1, 2, 3, 4, 5]


async def test_a_repeat_under_the_same_key_posts_once(house: House) -> None:
    call = calls.ChannelPost(channel="dev", body="once")

    first = await house.do(ANN, call, key="k")
    again = await house.do(ANN, call, key="k")

    assert (first, await house.texts("dev")) == (again, ["once"])
    with pytest.raises(KeyReused):
        await house.handlers[calls.ChannelPost](
            ANN, call, Asked(cause="t", key="k", payload="other")
        )


async def test_who_does_not_see_the_project_cannot_post(house: House) -> None:
    with pytest.raises(NotFound):
        await house.post("dev", "hello", who=STRANGER)


async def test_an_archived_channel_takes_no_posts_and_can_be_read(house: House) -> None:
    await house.post("dev", "one")
    await house.do(ANN, calls.ChannelChange(channel="dev", archived=True))

    with pytest.raises(Archived) as refusal:
        await house.post("dev", "two")
    assert refusal.value.code == "channel_archived"
    assert await house.texts("dev", EVE) == ["one"]
    await house.do(ANN, calls.ChannelChange(channel="dev", archived=False))
    assert (await house.post("dev", "two")).seq == 2


async def test_a_reader_reads_only(house: House) -> None:
    await house.do(ANN, calls.ChannelMember(channel="dev", name="eve", role=ChannelRole.READER))

    for call in (
        calls.ChannelPost(channel="dev", body="hello"),
        calls.ChannelLeave(channel="dev"),
    ):
        with pytest.raises(NotAllowed):
            await house.do(EVE, call)
    assert await house.texts("dev", EVE) == []


async def test_history_is_paged_both_ways_in_order(house: House) -> None:
    await house.post("dev", *"abcdefg")

    async def read(**asked: object) -> tuple[str, bool]:
        page = await house.do(EVE, calls.ChannelHistory(channel="dev", **asked))  # type: ignore[arg-type]
        assert page.head == 7
        return "".join(letter.message.body for letter in page.letters), page.more

    assert await read(limit=3) == ("efg", True)
    assert await read(limit=3, before=5) == ("bcd", True)
    assert await read(limit=3, before=2) == ("a", False)
    assert await read(limit=3, after=0) == ("abc", True)
    assert await read(limit=3, after=4) == ("efg", False)
    assert await read(limit=7) == ("abcdefg", False)
    assert await read(after=7) == ("", False)


async def test_a_page_fits_into_a_frame(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INBOX_BYTES", 1_000)
    await house.post("dev", *(letter * 300 for letter in "abcd"))

    up = await house.do(ANN, calls.ChannelHistory(channel="dev", after=0))
    down = await house.do(ANN, calls.ChannelHistory(channel="dev"))

    assert ([one.seq for one in up.letters], up.more) == ([1, 2], True)
    assert ([one.seq for one in down.letters], down.more) == ([3, 4], True)


async def test_a_cursor_beyond_the_newest_post_is_refused(house: House) -> None:
    await house.post("dev", "one")

    for call in (
        calls.ChannelHistory(channel="dev", after=2),
        calls.ChannelHistory(channel="dev", before=3),
    ):
        with pytest.raises(CursorAhead) as refusal:
            await house.do(ANN, call)
        assert refusal.value.code == "cursor_ahead"
    with pytest.raises(InvalidInput):
        await house.do(ANN, calls.ChannelHistory(channel="dev", after=1, unread=True))


async def test_reading_moves_a_members_place_forward_and_never_back(house: House) -> None:
    await house.do(EVE, calls.ChannelJoin(channel="dev"))
    await house.post("dev", *"abcde")

    async def unread() -> int:
        shown = await house.show("dev", EVE)
        return shown.seq - shown.seen

    assert await unread() == 5
    assert await house.texts("dev", EVE, unread=True, limit=2) == ["a", "b"]
    assert await unread() == 3
    assert await house.texts("dev", EVE, before=3) == ["a", "b"]
    assert await unread() == 3
    assert await house.texts("dev", EVE, unread=True) == ["c", "d", "e"]
    assert (await unread(), await house.texts("dev", EVE, unread=True)) == (0, [])


async def test_whoever_has_read_all_has_read_their_own_post_too(house: House) -> None:
    await house.post("dev", "a", "b")
    await house.post("dev", "c", who=BOB)
    await house.post("dev", "d")

    shown = await house.show("dev")
    assert (shown.seen, shown.seq) == (2, 4)


async def test_a_place_is_kept_in_the_projects_own_channel_and_of_guests_nowhere(
    house: House,
) -> None:
    await house.post(PROJECT_CHANNEL, "a", "b")
    await house.post("dev", "c")

    await house.texts(PROJECT_CHANNEL, BOB)
    await house.texts("dev", BOB)

    assert (await house.show(PROJECT_CHANNEL, BOB)).seen == 2
    assert ((await house.show("dev", BOB)).joined, (await house.show("dev", BOB)).seen) == (
        False,
        0,
    )


async def test_an_answer_stands_in_the_thread_of_what_it_answers(house: House) -> None:
    first = await house.post("dev", "why?")
    second = await house.post("dev", "so", who=BOB, reply_to=first.message)
    third = await house.post("dev", "ah", reply_to=second.message)

    assert first.thread == second.thread == third.thread == first.message


async def test_a_thread_of_posts_is_read_by_whoever_sees_the_channel(house: House) -> None:
    await house.create("den", kind=ChannelKind.PRIVATE)
    for name in ("dev", "den"):
        first = await house.post(name, "why?")
        await house.post(name, "so", reply_to=first.message)
        thread = calls.ThreadRead(message=first.message)

        assert [one.body for one in (await house.do(ANN, thread)).messages] == ["why?", "so"]
        if name == "dev":
            assert len((await house.do(BOB, thread)).messages) == 2
        else:
            with pytest.raises(NotFound):
                await house.do(BOB, thread)


async def test_only_a_post_of_the_same_channel_is_answered(house: House) -> None:
    await house.create("den", EVE, kind=ChannelKind.PRIVATE)
    secret = await house.post("den", "secret", who=EVE)

    for message in (secret.message, "nope"):
        with pytest.raises(NotFound):
            await house.post("dev", "and?", reply_to=message)
    assert await house.texts("dev") == []


async def mentioned(house: House, name: str, text: str) -> tuple[str, ...]:
    sent = await house.post(name, text)
    (row,) = await house.store.get([(Table.MESSAGE, sent.message)])
    assert isinstance(row, Message)
    return row.mentions


async def test_who_is_there_is_mentioned_and_who_is_not_is_no_error(house: House) -> None:
    assert await mentioned(house, "dev", "@bob @eve @zoe @nobody, see") == ("agent:bob", "user:eve")


async def test_a_name_of_two_mentions_both_but_never_oneself(house: House) -> None:
    assert await mentioned(house, "dev", "@ann @user:ann") == ("agent:ann",)


async def test_a_mention_does_not_bring_a_private_post_to_who_is_no_member(house: House) -> None:
    await house.create("den", kind=ChannelKind.PRIVATE)
    await house.do(ANN, calls.ChannelMember(channel="den", name="kim"))

    assert await mentioned(house, "den", "@bob @kim") == ("agent:kim",)


async def test_who_wants_to_be_told_of_nothing_is_not_mentioned(house: House) -> None:
    await house.do(BOB, calls.ChannelJoin(channel="dev", notify=Notify.NONE))

    assert await mentioned(house, "dev", "@bob @kim") == ("agent:kim",)


async def test_who_is_mentioned_gets_the_post_as_mail_and_an_agent_is_woken(house: House) -> None:
    sent = await house.post("dev", "@bob @eve look")

    assert [(one.address, one.wakes) for one in sent.to] == [
        ("agent:bob", True),
        ("user:eve", False),
    ]
    for who in (BOB, EVE):
        (letter,) = (await house.do(who, calls.InboxRead())).letters
        assert (letter.message.id, letter.why, letter.message.channel) == (
            sent.message,
            Why.MENTION,
            "dev",
        )
    assert await house.rows(Table.MESSAGE) == 1


async def test_a_full_mailbox_does_not_keep_a_post_from_the_others(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.post("dev", "@bob one")
    monkeypatch.setattr(limits, "MAILBOX_MAX", 1)

    sent = await house.post("dev", "@bob @eve two")

    assert ([one.address for one in sent.to], sent.count) == (["user:eve"], 1)
    assert "agent:bob" in sent.warning
    assert await house.texts("dev") == ["@bob one", "@bob @eve two"]


async def test_what_is_too_large_is_not_stored(house: House) -> None:
    with pytest.raises(TooLarge):
        await house.post("dev", "ü" * (limits.MESSAGE_BYTES // 2 + 1))
    with pytest.raises(InvalidInput):
        await house.post("dev", " ".join(f"@a{n}" for n in range(limits.RECIPIENTS_MAX + 1)))
    with pytest.raises(NotFound):
        await house.post("dev", "see", attachments=(Attachment(digest="0" * 64),))
    assert await house.texts("dev") == []


async def test_who_may_see_a_post(house: House) -> None:
    await house.create("den", kind=ChannelKind.PRIVATE)
    posts = {}
    for name in ("dev", "den"):
        sent = await house.post(name, "hello")
        (posts[name],) = await house.store.get([(Table.MESSAGE, sent.message)])

    for who, sees in ((ANN, ["dev", "den"]), (BOB, ["dev"]), (OPS, ["dev"]), (STRANGER, [])):
        found = []
        for name, post in posts.items():
            assert isinstance(post, Message)
            if await house.posts.may_see(who, post):
                found.append(name)
        assert found == sees


async def test_who_is_removed_while_it_reads_does_not_come_back_by_that(house: House) -> None:
    await house.create("den", kind=ChannelKind.PRIVATE)
    await house.post("den", "secret")
    await house.do(ANN, calls.ChannelMember(channel="den", name="bob"))
    place = await house.posts._members.place(BOB, "den")
    await house.do(ANN, calls.ChannelMember(channel="den", name="bob", role=None))

    with pytest.raises(NotFound):
        await house.posts._move(BOB, place, 1, Asked(cause="t"))
    with pytest.raises(NotFound):
        await house.show("den", BOB)


async def test_agents_of_one_machine_have_places_of_their_own(house: House) -> None:
    await house.post(PROJECT_CHANNEL, "a")

    await house.texts(PROJECT_CHANNEL, BOB)

    assert (await house.show(PROJECT_CHANNEL, agent("kim"))).seen == 0
