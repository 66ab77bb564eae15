"""Questions: who may put, answer and withdraw them, and how they keep their task."""

from typing import Any

import pytest

from agentcom.core import ask_facts, facts, questions
from agentcom.core.effects import Stop, TellAsk
from agentcom.model import limits
from agentcom.model.address import HUB, Address
from agentcom.model.ask import Ask, AskState
from agentcom.model.batch import Table
from agentcom.model.errors import (
    AskOver,
    InvalidInput,
    NotAllowed,
    NotFound,
    Stale,
    TooManyAsks,
)
from agentcom.model.failure import FailureClass
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import AgentId, Fence, ProjectId, TaskId, UserId, WallTime
from agentcom.model.replies import AskChanged, Explanation
from agentcom.model.result import LandStatus, Result, ResultStatus
from agentcom.model.task import Phase, StopReason, TaskState, Wait
from agentcom.testing.world import TTL_MS, machine, person
from tests.core.acts import LOST_MS, Pool, failed

ANN, BOB, M1 = Address("user:ann"), Address("user:bob"), Address("agent:m1")
SUBMITTER = person("ann", Role.SUBMITTER)


class Room(Pool):
    """A pool in which agents and people ask."""

    def put(self, task: TaskId, question: str = "which?", **fields: Any) -> Ask:
        row = self.task(task)
        body = ask_facts.PutAsk(
            question=question,
            asker=Address(f"agent:{row.agent}"),
            task=task,
            fence=row.fence,
            **fields,
        )
        return self._changed(body, machine(row.machine or ""))

    def wonder(self, to: str, by: str = "ann", **fields: Any) -> Ask:
        body = ask_facts.PutAsk(
            question="how?", asker=Address(f"user:{by}"), to=Address(to), **fields
        )
        return self._changed(body, person(by))

    def answer(self, ask: Ask, text: str = "that", who: Identity = SUBMITTER) -> Ask:
        by = Address(f"user:{who.user}")
        return self._changed(ask_facts.AnswerAsk(ask.id, by, text), who)

    def answer_as(self, agent: str, ask: Ask, text: str = "that") -> Ask:
        body = ask_facts.AnswerAsk(ask.id, Address(f"agent:{agent}"), text)
        return self._changed(body, machine(agent))

    def withdraw(self, ask: Ask) -> Ask:
        actor = person("ann") if ask.fence is None else machine("m1")
        return self._changed(ask_facts.WithdrawAsk(ask.id, ask.asker), actor)

    def hear(self, ask: Ask) -> None:
        assert ask.task is not None
        assert ask.fence is not None
        self.ask(ask_facts.HearAsk(ask.id, ask.task, ask.fence), machine("m1"))

    def row(self, ask: Ask) -> Ask:
        row = self.rows[Table.ASK, ask.id]
        assert isinstance(row, Ask)
        return row

    def live(self, ms: int) -> None:
        """Let time pass while machines send their heartbeats."""
        end = self.now_ms + ms
        while self.now_ms < end:
            self.advance(min(TTL_MS // 4, end - self.now_ms))
            for name in self.view.sessions:
                held = [self.holding(task.id) for task in self.view.held_tasks(name)]
                self.beat(name, held)

    def stop(self, task: TaskId, session: str | None = None) -> None:
        row = self.task(task)
        stopped = facts.Stopped(task, row.fence, session=session)
        self.tell(stopped, machine(row.machine or ""))

    def parked(self) -> tuple[TaskId, Ask]:
        """Return a task that waits for an answer, and the question."""
        task = self.running()
        ask = self.put(task)
        self.live(limits.ASK_HOLD_MS)
        self.stop(task)
        assert self.task(task).wait is Wait.ANSWER
        return task, ask

    def _changed(self, body: facts.Body, actor: Identity) -> Ask:
        reply = self.ask(body, actor)
        assert isinstance(reply, AskChanged)
        return reply.ask


@pytest.fixture
def room() -> Room:
    return Room()


def stops(room: Room) -> set[StopReason | None]:
    return {effect.reason for effect in room.effects if isinstance(effect, Stop)}


def test_an_answer_in_time_lets_the_attempt_go_on(room: Room) -> None:
    task = room.running()
    ask = room.put(task, options=("red", "blue"))
    room.restart()
    room.machine("m1", held=[room.holding(task)])

    room.live(limits.ASK_HOLD_MS - 1_000)
    answered = room.answer(ask, "blue")
    room.hear(ask)
    room.live(limits.ASK_HOLD_MS)

    assert (answered.state, answered.answer, answered.answered_by) == ("answered", "blue", ANN)
    assert room.row(ask) == answered
    assert room.task(task).state is TaskState.RUNNING
    assert stops(room) == set()
    assert room.finish(task).state is TaskState.COMPLETED


def test_without_an_answer_the_slot_is_freed_and_the_answer_queues_the_task(room: Room) -> None:
    task = room.running()
    ask = room.put(task)
    room.live(limits.ASK_HOLD_MS)

    assert stops(room) == {StopReason.ASKED}
    (other,) = room.submit("other")
    assert room.task(other).state is TaskState.QUEUED
    room.stop(task)
    assert (room.task(task).state, room.task(task).wait) == (TaskState.WAITING, Wait.ANSWER)
    assert room.task(other).state is TaskState.ASSIGNED
    room.accept(other)
    room.finish(other)

    room.restart()
    room.machine("m1")
    room.answer(ask)

    row = room.task(task)
    assert (row.state, row.attempt, row.failures) == (TaskState.ASSIGNED, 2, 0)
    assert room.pushed(task)[-1].answered == (ask.id,)


def test_the_same_agent_goes_on_in_its_session(room: Room) -> None:
    room.machine("m1")
    room.machine("m2")
    task = room.running()
    assert room.task(task).agent == "m1"
    ask = room.put(task)
    saved = facts.Checkpointed(task, room.task(task).fence, "c" * 40, session="s1")
    room.tell(saved, machine("m1"))
    room.live(limits.ASK_HOLD_MS)
    room.stop(task)

    room.answer(ask)

    pushed = room.pushed(task)[-1]
    assert (pushed.agent, pushed.session, pushed.checkpoint) == (AgentId("m1"), "s1", "c" * 40)


def test_the_session_of_a_stopped_attempt_is_kept_though_nothing_was_saved(room: Room) -> None:
    task = room.running()
    ask = room.put(task)
    room.live(limits.ASK_HOLD_MS)
    room.stop(task, session="s1")

    room.answer(ask)

    assert room.pushed(task)[-1].session == "s1"


def test_an_answer_while_the_attempt_stops_queues_the_task_at_once(room: Room) -> None:
    task = room.running()
    ask = room.put(task)
    room.live(limits.ASK_HOLD_MS)

    room.answer(ask)
    room.stop(task)

    assert (room.task(task).state, room.task(task).attempt) == (TaskState.ASSIGNED, 2)
    assert room.pushed(task)[-1].answered == (ask.id,)


def test_an_attempt_that_ends_with_an_open_question_waits_for_the_answer(room: Room) -> None:
    task = room.running()
    ask = room.put(task)

    row = room.finish(task)

    assert (row.state, row.wait, row.failures) == (TaskState.WAITING, Wait.ANSWER, 0)
    room.answer(ask)
    assert (room.task(task).state, room.task(task).attempt) == (TaskState.ASSIGNED, 2)


def test_an_answer_that_the_attempt_never_heard_goes_to_the_next_one(room: Room) -> None:
    task = room.running()
    ask = room.put(task)
    room.answer(ask)

    row = room.finish(task)

    assert (row.state, row.attempt, row.failures) == (TaskState.ASSIGNED, 2, 0)
    assert room.pushed(task)[-1].answered == (ask.id,)
    room.accept(task)
    assert room.finish(task).state is TaskState.COMPLETED


def test_who_fell_silent_before_it_heard_does_not_come_back(room: Room) -> None:
    task = room.running()
    ask = room.put(task)
    room.answer(ask)
    room.advance(LOST_MS)
    held = room.holding(task)

    room.machine("m1", held=[held])

    assert (room.task(task).state, room.task(task).attempt) == (TaskState.ASSIGNED, 2)
    assert room.pushed(task)[-1].answered == (ask.id,)


@pytest.mark.parametrize("end", ["lost", "failed", "paused", "finished"])
def test_however_the_attempt_ends_the_task_is_not_tried_without_the_answer(
    room: Room, end: str
) -> None:
    task = room.running()
    ask = room.put(task, deadline_ms=86_400_000)
    match end:
        case "lost":
            room.advance(LOST_MS)
        case "failed":
            room.finish(task, failed(failure=FailureClass.AGENT))
            assert room.task(task).wait is Wait.RETRY
            room.live(limits.RETRY_MAX_MS)
        case "paused":
            room.ask(facts.Pause("task:" + task, paused=True, stop=True))
            room.stop(task)
            room.ask(facts.Pause("task:" + task, paused=False))
        case _:
            room.finish(task, Result(status=ResultStatus.DONE))

    assert room.task(task).wait is Wait.ANSWER
    room.machine("m1")
    room.answer(ask)
    assert (room.task(task).state, room.task(task).attempt) == (TaskState.ASSIGNED, 2)


def test_a_task_with_several_questions_waits_for_all_of_them(room: Room) -> None:
    task = room.running()
    first, second = room.put(task, "a?"), room.put(task, "b?")
    room.live(limits.ASK_HOLD_MS)
    room.stop(task)

    room.answer(first)
    assert room.task(task).wait is Wait.ANSWER
    room.answer(second)

    assert room.pushed(task)[-1].answered == (first.id, second.id)
    room.accept(task)
    for _ in range(limits.ASKS_TOLD):
        asked = room.put(task)
        room.answer(asked)
        room.hear(asked)
    assert len(room.task(task).answered) == limits.ASKS_TOLD
    assert first.id not in room.task(task).answered


def test_a_deadline_takes_the_fallback_or_tells_that_nobody_answered(room: Room) -> None:
    task = room.running()
    taken = room.put(task, deadline_ms=300_000, fallback="red", options=("red", "blue"))
    unanswered = room.put(task, deadline_ms=300_000)
    room.live(limits.ASK_HOLD_MS)
    room.stop(task)
    room.restart()
    room.machine("m1")

    room.live(300_000)

    row = room.row(taken)
    assert (row.state, row.answer, row.answered_by) == ("answered", "red", HUB)
    assert room.row(unanswered).state is AskState.EXPIRED
    assert room.task(task).state.held
    assert room.pushed(task)[-1].answered == (taken.id, unanswered.id)
    with pytest.raises(AskOver, match="expired"):
        room.answer(unanswered)


def test_a_deadline_within_the_attempts_patience_stops_nobody(room: Room) -> None:
    task = room.running()
    ask = room.put(task, deadline_ms=10_000)

    room.live(10_000)
    room.hear(ask)
    room.live(limits.ASK_HOLD_MS)

    assert room.row(ask).state is AskState.EXPIRED
    assert (room.task(task).state, stops(room)) == (TaskState.RUNNING, set())


def test_the_first_answer_counts(room: Room) -> None:
    ask = room.put(room.running())
    room.answer(ask, "first")

    with pytest.raises(AskOver, match="answered by user:ann"):
        room.answer(ask, "second", person("bob"))

    assert room.row(ask).answer == "first"


def test_who_is_asked_whose_task_it_is_and_operators_may_answer(room: Room) -> None:
    task = room.running()
    room.machine("m2")
    eve = person("eve", Role.SUBMITTER)

    for_all = room.put(task)
    with pytest.raises(NotFound):
        room.answer(for_all, who=eve)
    with pytest.raises(NotFound):
        room.answer_as("m2", for_all)
    room.answer(for_all, who=SUBMITTER)
    room.answer(room.put(task, to=Address("agent:m2")), who=person("op", Role.OPERATOR))
    room.answer(room.put(task, to=Address("agent:m2")), who=SUBMITTER)
    room.answer(room.put(task, to=Address("user:eve")), who=eve)
    assert room.answer_as("m2", room.put(task, to=Address("agent:m2"))).answered_by == "agent:m2"


def test_nobody_answers_the_own_question(room: Room) -> None:
    with pytest.raises(NotAllowed, match="withdraw"):
        room.answer_as("m1", room.put(room.running()))
    with pytest.raises(NotAllowed):
        room.answer(room.wonder("user:bob"), who=person("ann", Role.ADMIN))


def test_questions_of_another_project_do_not_exist(room: Room) -> None:
    ask = room.put(room.running())
    other = Identity(
        role=Role.ADMIN, user=UserId("ann"), credential="c", project=ProjectId("other")
    )

    with pytest.raises(NotFound):
        room.answer(ask, who=other)


def test_people_and_agents_ask_each_other_without_a_task(room: Room) -> None:
    room.machine("m1")
    ask = room.wonder("agent:m1", deadline_ms=60_000)

    assert room.answer_as("m1", ask).answer == "that"
    late = room.wonder("user:bob", deadline_ms=60_000)
    room.restart()
    room.live(60_000)
    assert room.row(late).state is AskState.EXPIRED
    told = [effect.ask.state for effect in room.effects if isinstance(effect, TellAsk)]
    assert told == ["open", "answered", "open", "expired"]


def test_a_question_taken_back_keeps_nobody_and_is_not_told(room: Room) -> None:
    task, ask = room.parked()

    assert room.withdraw(ask).state is AskState.WITHDRAWN

    assert room.task(task).state is TaskState.ASSIGNED
    assert room.pushed(task)[-1].answered == ()
    with pytest.raises(AskOver, match="withdrawn"):
        room.withdraw(ask)
    with pytest.raises(NotFound):
        room.ask(ask_facts.WithdrawAsk(ask.id, BOB), person("bob"))


def test_the_end_of_a_task_withdraws_its_questions(room: Room) -> None:
    task, ask = room.parked()

    room.ask(facts.Cancel(task))

    assert room.task(task).state is TaskState.CANCELLED
    assert room.row(ask).state is AskState.WITHDRAWN
    with pytest.raises(AskOver):
        room.answer(ask)
    room.ask(facts.Retry(task))
    assert room.task(task).state is TaskState.ASSIGNED


def test_a_cancel_and_an_answer_in_one_turn_agree(room: Room) -> None:
    task, ask = room.parked()
    cancel = facts.Fact(body=facts.Cancel(task), actor=person("ann"))
    body = ask_facts.AnswerAsk(ask.id, ANN, "late")
    answer = facts.Fact(body=body, actor=person("ann"), reply_to=99)

    room.decide([cancel, answer])

    assert isinstance(room.replies.pop(99), AskOver)
    assert room.row(ask).state is AskState.WITHDRAWN


def test_why_says_who_is_asked_what_since_when(room: Room) -> None:
    task = room.running()
    ask = room.put(task, "which\n one?", to=BOB, deadline_ms=900_000)
    long = room.put(task, "x" * 1_000)
    assert isinstance(running := room.ask(facts.Explain(task)), Explanation)
    assert (
        "agent:m1 has asked user:bob since 2023-11-14 22:13:21 UTC: which one?" in running.summary
    )
    room.live(limits.ASK_HOLD_MS)
    room.stop(task)

    answer = room.ask(facts.Explain(task))

    assert isinstance(answer, Explanation)
    first, second = answer.summary.split("; ")
    assert first == "agent:m1 has asked user:bob since 2023-11-14 22:13:21 UTC: which one?"
    assert second.startswith("agent:m1 has asked user:ann since")
    assert len(second) < 300
    assert answer.next_action.startswith(f"agentcom ask answer {ask.id} ")
    assert answer.next_at == ask.deadline_at
    room.answer(long)


def test_only_the_attempt_at_work_asks(room: Room) -> None:
    task = room.running()
    body = ask_facts.PutAsk(question="q", asker=M1, task=task, fence=Fence(7, 9))

    with pytest.raises(Stale):
        room.ask(body, machine("m1"))
    landing = room.landing(on="m2")
    assert room.task(landing).phase is Phase.LANDING
    with pytest.raises(Stale, match="done"):
        room.put(landing)
    room.land(landing, LandStatus.ERROR)
    room.live(limits.RETRY_MAX_MS)
    assert room.task(landing).state.held
    with pytest.raises(Stale, match="done"):  # what only lands again has no agent
        room.put(landing)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("question", {"question": "x" * (limits.ASK_BYTES + 1)}),
        ("question", {"question": "bell\a"}),
        ("question", {"question": " \n"}),
        ("options", {"options": ("a", "a")}),
        ("options", {"options": ("a\nb",)}),
        ("fallback", {"options": ("a",), "fallback": "b"}),
        ("fallback", {"fallback": ""}),
        ("to", {"to": M1}),
    ],
)
def test_what_cannot_be_asked_is_refused(room: Room, field: str, fields: dict[str, Any]) -> None:
    task = room.running()

    with pytest.raises(InvalidInput) as refused:
        room.put(task, **fields)

    assert refused.value.field == field
    assert room.task(task).asks == ()


def test_a_person_names_whom_it_asks_and_an_answer_is_one_of_the_options(room: Room) -> None:
    with pytest.raises(InvalidInput, match="to"):
        room.ask(ask_facts.PutAsk(question="q", asker=ANN), person("ann"))
    ask = room.put(room.running(), options=("red", "blue"))
    with pytest.raises(InvalidInput, match="red, blue"):
        room.answer(ask, "green")
    with pytest.raises(InvalidInput):
        room.answer(ask, "\x00")
    assert room.row(ask).state is AskState.OPEN


def test_open_questions_are_bounded(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ASKS_PER_ASKER", 6)
    monkeypatch.setattr(limits, "ASKS_MAX", 8)
    task = room.running()
    asks = [room.put(task) for _ in range(limits.ASKS_PER_TASK)]
    with pytest.raises(TooManyAsks, match="task"):
        room.put(task)
    room.answer(asks[0])
    room.put(task)
    for _ in range(4):
        room.wonder("user:bob")
    with pytest.raises(TooManyAsks, match="at a time"):
        room.wonder("user:bob", by="eve")
    room.withdraw(asks[1])
    room.withdraw(asks[2])
    for _ in range(2):
        room.wonder("user:bob")
    room.withdraw(asks[3])
    with pytest.raises(TooManyAsks, match="of one"):
        room.wonder("user:bob")


def test_an_attempt_that_is_cancelled_while_it_asks_is_over(room: Room) -> None:
    task = room.running()
    ask = room.put(task)

    room.ask(facts.Cancel(task))
    room.stop(task)

    assert room.task(task).state is TaskState.CANCELLED
    assert room.row(ask).state is AskState.WITHDRAWN


def test_after_a_clock_was_set_back_the_timer_alone_ends_patience(room: Room) -> None:
    ask = room.put(room.running())
    later = WallTime(ask.at + limits.ASK_HOLD_MS)

    assert questions.is_patience_over(ask, later)
    assert not questions.is_patience_over(ask, WallTime(later - 1))
    assert questions.is_patience_over(ask, WallTime(ask.at - 1))
