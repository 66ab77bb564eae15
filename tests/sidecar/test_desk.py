"""What waits for the agent of a run, and what is known of it after a restart."""

from pathlib import Path

from agentcom.model.address import Address
from agentcom.protocol import frames
from agentcom.sidecar.desk import RunDesk
from agentcom.sidecar.machine_mail import Mail, box_of
from agentcom.sidecar.permissions import Permissions
from tests.sidecar.letters import letter
from tests.sidecar.sidecar_world import ADA, TASK, attempt_key

KEY = attempt_key()
BOX = box_of(TASK)


class Post:
    def __init__(self) -> None:
        self.taken: list[frames.MailTaken] = []
        self.mail = Mail(self.taken.append)

    def word(self, seq: int, text: str) -> None:
        one = letter(seq, text, to=(Address(f"task:{TASK}"),))
        self.mail.take(frames.MailFrame(agent=BOX, letters=(one,)))

    def letter(self, seq: int) -> None:
        self.mail.take(frames.MailFrame(agent=ADA, letters=(letter(seq),)))

    @property
    def seen(self) -> list[int]:
        return [seq for one in self.taken if one.seen for seq in one.seqs]

    def desk(self, folder: Path, *, may_wake: bool = True) -> RunDesk:
        return RunDesk(
            ADA,
            KEY,
            folder,
            mail=self.mail,
            permissions=Permissions(None, KEY, "run"),
            may_wake=lambda: may_wake,
        )


async def test_only_words_to_the_task_come_into_a_turn(tmp_path: Path) -> None:
    post = Post()
    post.letter(1)
    desk = post.desk(tmp_path)
    assert await desk.word() is None

    post.word(2, "use sqlite")
    word = await desk.word()

    assert word is not None
    assert word[0] == "word-1"
    assert "> use sqlite" in word[1]
    assert await desk.word() is None


async def test_a_word_that_was_heard_is_seen_and_one_that_was_not_begins_a_turn(
    tmp_path: Path,
) -> None:
    post = Post()
    desk = post.desk(tmp_path)
    post.word(1, "first")
    await desk.word()
    post.word(2, "second")
    await desk.word()

    await desk.heard("word-1", taken=True)
    await desk.heard("word-2", taken=False)
    prompt = await desk.more(1)

    assert post.seen == [1]
    assert prompt is not None
    assert "> second" in prompt
    assert "first" not in prompt


async def test_a_key_is_not_used_twice(tmp_path: Path) -> None:
    post = Post()
    desk = post.desk(tmp_path)
    post.word(1, "first")
    await desk.word()
    await desk.heard("word-1", taken=False)

    again = await desk.word()

    assert again is not None
    assert again[0] == "word-2"


async def test_a_desk_after_a_restart_knows_what_is_open_and_what_was_seen(tmp_path: Path) -> None:
    before = Post()
    desk = before.desk(tmp_path)
    for seq, text in ((1, "heard"), (2, "open")):
        before.word(seq, text)
        await desk.word()
    await desk.heard("word-1", taken=True)

    after = Post()
    again = after.desk(tmp_path)
    left = await again.words()
    await again.heard("word-1", taken=True)

    assert list(left) == ["word-1", "word-2"]
    assert "> open" in left["word-2"]
    assert after.seen == [1]


async def test_a_prompt_is_the_same_until_it_was_said(tmp_path: Path) -> None:
    post = Post()
    post.letter(1)
    prompt = await post.desk(tmp_path).more(1)

    after = Post()
    again = after.desk(tmp_path)

    assert await again.more(1) == prompt
    await again.settle(1, said=True)
    assert after.seen == [1]
    assert again.woken == 1


async def test_letters_of_a_prompt_that_was_not_said_wait(tmp_path: Path) -> None:
    post = Post()
    post.letter(1)
    desk = post.desk(tmp_path)
    await desk.more(1)

    await desk.settle(1, said=False)

    assert post.seen == []
    assert [one.seq for one in post.mail.hand(ADA, KEY)] == [1]


async def test_who_may_not_be_woken_is_told_nothing(tmp_path: Path) -> None:
    post = Post()
    post.word(1, "use sqlite")
    desk = post.desk(tmp_path, may_wake=False)

    assert await desk.word() is None
    assert await desk.more(1) is None


async def test_a_word_calls_whoever_listens_for_its_task(tmp_path: Path) -> None:
    post, called = Post(), []
    desk = post.desk(tmp_path)
    desk.listen(lambda: called.append(1))

    post.letter(1)
    assert not called
    post.word(2, "use sqlite")
    assert called == [1]
    desk.listen(None)
    post.word(3, "now")
    assert called == [1]
