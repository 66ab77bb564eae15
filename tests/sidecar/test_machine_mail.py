"""Which letters are here, which attempt is given them, and what the hub hears of it."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from agentcom.model.address import Address
from agentcom.model.ids import Fence, TaskId
from agentcom.model.message import MessageId
from agentcom.protocol import frames
from agentcom.protocol.told import Letter
from agentcom.sidecar import machine_mail as module
from agentcom.sidecar.machine_mail import Mail
from agentcom.sidecar.machine_values import Key
from tests.sidecar.letters import letter
from tests.sidecar.sidecar_world import ADA, BOB

ONE, TWO = Key(TaskId("t1"), Fence(7, 1)), Key(TaskId("t2"), Fence(7, 1))


class Post:
    def __init__(self) -> None:
        self.sent: list[tuple[tuple[int, ...], bool]] = []
        self.mail = Mail(lambda taken: self.sent.append((taken.seqs, taken.seen)))

    def bring(self, *letters: Letter) -> None:
        self.mail.take(frames.MailFrame(agent=ADA, letters=letters))

    def show(self, *seqs: int) -> None:
        self.mail.shown({ADA: {seq: MessageId(f"m{seq}") for seq in seqs}})

    def hand(self, key: Key = ONE, *, waking: bool = False) -> Sequence[int]:
        return [one.seq for one in self.mail.hand(ADA, key, waking=waking)]


def test_what_comes_is_said_to_be_here() -> None:
    post = Post()
    post.bring(letter(3), letter(4))
    post.bring(letter(4))

    assert post.sent == [((3, 4), False), ((4,), False)]
    assert post.hand() == [3, 4]


def test_a_letter_is_given_to_one_attempt_and_shown_once() -> None:
    post = Post()
    post.bring(letter(1), letter(2))

    assert (post.hand(ONE), post.hand(TWO)) == ([1, 2], [])
    post.show(1, 2)
    post.bring(letter(2), letter(3))

    assert post.hand(TWO) == [3]
    assert post.sent == [((1, 2), False), ((1, 2), True), ((3,), False), ((2,), True)]


def test_nobody_is_woken_for_what_the_agent_has_read_by_itself() -> None:
    post = Post()
    post.bring(letter(1), letter(2))
    post.mail.take(frames.MailFrame(agent=ADA, read=(MessageId("m1"), MessageId("m9"))))

    assert post.hand() == [2]


def test_what_was_not_shown_is_for_the_next() -> None:
    post = Post()
    post.bring(letter(1), letter(2))
    post.hand(ONE)
    post.show(1)

    post.mail.release(ADA, TWO)
    assert post.hand(TWO) == []
    post.mail.release(ADA, ONE)
    assert post.hand(TWO) == [2]


def test_only_a_letter_that_wakes_begins_a_turn_and_others_come_with_it() -> None:
    post = Post()
    post.bring(letter(1, wakes=False))
    assert post.hand(waking=True) == []

    post.bring(letter(2))
    assert post.hand(waking=True) == [1, 2]


def test_a_turn_has_bounded_letters_and_the_waking_one_is_among_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LETTERS_PER_TURN", 2)
    post = Post()
    post.bring(*[letter(seq, wakes=False) for seq in range(1, 4)], letter(4))

    assert post.hand(waking=True) == [1, 4]
    assert post.hand(waking=True) == []
    assert post.hand() == [2, 3]


def test_a_turn_has_bounded_bytes_and_room_for_one_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_PER_TURN", 10)
    post = Post()
    post.bring(letter(1, "x" * 50), letter(2, "y"), letter(3, "z" * 9))

    assert [post.hand(), post.hand(), post.hand()] == [[1], [2, 3], []]


def test_letters_over_the_bound_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LETTERS_KEPT", 2)
    post = Post()
    post.bring(letter(1), letter(2), letter(3))

    assert post.sent == [((1, 2), False)]
    post.hand()
    post.show(1, 2)
    post.bring(letter(3))
    assert post.hand() == [3]


def test_what_was_shown_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOWN_KEPT", 2)
    post = Post()
    post.show(1, 2, 3)
    post.sent.clear()

    post.bring(letter(1), letter(2), letter(3))

    assert post.sent == [((1,), False), ((2, 3), True)]


def test_a_sequence_that_is_anothers_by_now_is_not_taken_for_shown() -> None:
    post = Post()
    post.bring(letter(1))
    post.hand()
    post.show(1)
    post.sent.clear()
    restored = letter(1, "other")
    restored = replace(restored, message=replace(restored.message, id=MessageId("other")))

    post.bring(restored)

    assert post.sent == [((1,), False)]
    assert post.hand() == [1]


def test_agents_have_letters_of_their_own() -> None:
    post = Post()
    post.bring(letter(1))

    assert post.mail.hand(BOB, TWO) == ()
    post.mail.release(BOB, TWO)
    assert post.hand() == [1]


def test_a_word_to_a_task_is_for_its_attempt_alone() -> None:
    post = Post()
    word = letter(1, to=(Address("task:t1"),))
    post.mail.take(frames.MailFrame(agent=module.box_of(ONE.task), letters=(word,)))
    post.bring(letter(1, "mail"), letter(2))

    assert post.mail.hand(ADA, TWO) == (letter(1, "mail"), letter(2))
    assert post.mail.hand(ADA, ONE) == (word,)


def test_words_and_letters_of_the_same_number_are_told_apart() -> None:
    taken: list[frames.MailTaken] = []
    mail = Mail(taken.append)
    box = module.box_of(ONE.task)
    word = letter(1, "word", to=(Address("task:t1"),))
    mail.take(frames.MailFrame(agent=box, letters=(word,)))
    mail.take(frames.MailFrame(agent=ADA, letters=(letter(1),)))

    handed = mail.hand(ADA, ONE, waking=True)
    named = module.names_of(ADA, handed)
    mail.shown(named)

    assert [one.message.body for one in handed] == ["word", "hello"]
    assert named == {box: {1: MessageId("m1")}, ADA: {1: MessageId("m1")}}
    assert [(one.agent, one.seqs) for one in taken if one.seen] == [(box, (1,)), (ADA, (1,))]


def test_a_word_that_was_not_shown_is_there_for_the_next() -> None:
    post = Post()
    word = letter(1, to=(Address("task:t1"),))
    post.mail.take(frames.MailFrame(agent=module.box_of(ONE.task), letters=(word,)))
    post.mail.hand(ADA, ONE)

    post.mail.release(ADA, ONE)

    assert post.mail.hand(BOB, ONE) == (word,)
