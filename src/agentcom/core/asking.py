"""Questions: put, answered once, withdrawn, or over because nobody answered in time.

Who asks and who answers stands in the facts as addresses, which the door took from the connection.
How a question keeps its task: `core/questions.py`, and `asks` in `core/tasks.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agentcom.core import facts, moves, questions
from agentcom.core.ask_facts import AnswerAsk, AskDue, HearAsk, PutAsk, WithdrawAsk
from agentcom.core.effects import Stop
from agentcom.core.facts import Fact
from agentcom.core.reports import holds
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model import address, limits
from agentcom.model.address import HUB, Address
from agentcom.model.ask import Ask, AskId, AskState
from agentcom.model.batch import Table
from agentcom.model.errors import AskOver, InvalidInput, NotAllowed, NotFound, Stale, TooManyAsks
from agentcom.model.event import EventKind
from agentcom.model.identity import Identity
from agentcom.model.ids import Fence, TaskId, UserId, WallTime
from agentcom.model.policy import Action, Reach, reach
from agentcom.model.replies import AskChanged, Done, Reply
from agentcom.model.task import Phase, StopReason, Task

_SPACES: Final = str.maketrans("", "", "\n\t")


def wanted(
    view: PoolView, _fact: Fact, body: AnswerAsk | WithdrawAsk
) -> Sequence[tuple[Table, str]]:
    """Return the row of a question that is open no more."""
    return () if body.ask in view.asks else [(Table.ASK, body.ask)]


def put(turn: Turn, fact: Fact, body: PutAsk) -> AskChanged:
    """Open a question; one of an agent keeps its task.

    Raises:
        InvalidInput: a field breaks its bound, or nobody is asked.
        TooManyAsks: of this task, asker or pool too many are open.
        Stale: the attempt that asks is over.
    """
    view = turn.view
    _check(body)
    task = None if body.task is None else _attempt(turn, fact, body.task, body.fence)
    _check_room(view, body.asker, task)
    now = turn.now.wall
    ask = Ask(
        id=AskId(turn.ids.new()),
        asker=body.asker,
        question=body.question,
        at=now,
        project=fact.actor.project,
        to=body.to,
        options=body.options,
        deadline_at=WallTime(now + (body.deadline_ms or limits.ASK_DEADLINE_MS)),
        fallback=body.fallback,
        task=body.task,
        fence=body.fence,
        agent=task.agent if task is not None else None,
    )
    questions.put(turn, ask)
    if task is not None:
        whom = body.to or address.of_user(task.submitter)
        turn.move(task, moves.AskPut(ask.id), EventKind.ASKED, f"{whom}, question {ask.id}")
    turn.effects.append(questions.timer_of(view, ask, turn.now))
    return AskChanged(ask)


def answer(turn: Turn, fact: Fact, body: AnswerAsk) -> AskChanged:
    """Take the first answer; its task goes on, or is queued again.

    Raises:
        NotFound: there is no such question, or not for this one.
        NotAllowed: the asker answers.
        AskOver: it has an answer, or needs none any more.
        InvalidInput: the answer is none of the options, or breaks its bound.
    """
    ask = _find(turn, fact, body.ask)
    row = turn.view.tasks.get(ask.task) if ask.task is not None else None
    submitter = row.submitter if row is not None else None
    if body.by == ask.asker:
        raise NotAllowed("who asks does not answer; withdraw it to go on without")
    if ask.state is AskState.OPEN and not may_answer(ask, body.by, fact.actor, submitter):
        raise NotFound(f"there is no question {body.ask}")
    _check_open(ask)
    check_text("answer", body.answer)
    if ask.options and body.answer not in ask.options:
        raise InvalidInput("answer", f"one of {', '.join(ask.options)}")
    ended = questions.end(turn, ask, AskState.ANSWERED, body.answer, body.by)
    _go_on(turn, ended)
    return AskChanged(ended)


def withdraw(turn: Turn, fact: Fact, body: WithdrawAsk) -> AskChanged:
    """Close a question without an answer.

    Raises:
        NotFound: there is no such question, or another put it.
        AskOver: it has an answer, or is withdrawn.
    """
    ask = _find(turn, fact, body.ask)
    if body.by != ask.asker:
        raise NotFound(f"there is no question {body.ask}")
    _check_open(ask)
    ended = questions.end(turn, ask, AskState.WITHDRAWN)
    _go_on(turn, ended)
    return AskChanged(ended)


def heard(turn: Turn, fact: Fact, body: HearAsk) -> Done:
    """Note that an attempt knows how its question ended; raises `Stale`."""
    task = _attempt(turn, fact, body.task, body.fence)
    if body.ask in task.unheard:
        turn.move(task, moves.AskHeard(body.ask), EventKind.ANSWERED, f"question {body.ask}, heard")
    return Done()


def due(turn: Turn, _fact: Fact, body: AskDue) -> None:
    """Free the slot of an attempt that waited long enough, or close a question at its deadline."""
    ask = turn.view.asks.get(body.ask)
    if ask is None:
        return
    now = turn.now.wall
    assert ask.deadline_at is not None
    if ask.deadline_at <= now:
        _time_is_up(turn, ask)
        return
    if questions.keeps_slot(turn.view, ask) and questions.is_patience_over(ask, now):
        assert ask.task is not None
        _free_slot(turn, turn.view.tasks[ask.task])
    turn.effects.append(questions.timer_of(turn.view, ask, turn.now))


def may_answer(ask: Ask, who: Address, identity: Identity, submitter: UserId | None) -> bool:
    """Return whether someone may answer: who is asked, whose task it is, who may answer all."""
    if who in (ask.to, ask.asker):
        return who == ask.to
    if identity.machine is not None:
        return False
    mine = submitter is not None and who == address.of_user(submitter)
    return mine or reach(identity, Action.ASK_ANSWER) is Reach.ANY


def check_text(field: str, text: str) -> None:
    """Refuse what is too long to be told, or could not be shown; raises `InvalidInput`."""
    plain = text.translate(_SPACES)
    if not text.strip() or len(text.encode()) > limits.ASK_BYTES or not plain.isprintable():
        rule = f"1 to {limits.ASK_BYTES} bytes, no control characters; what is longer is a note"
        raise InvalidInput(field, rule)


def _check(body: PutAsk) -> None:
    check_text("question", body.question)
    for option in body.options:
        if not option.isprintable() or not option.strip():
            raise InvalidInput("options", "printable text, in one line")
    if len(set(body.options)) != len(body.options):
        raise InvalidInput("options", "each once")
    if body.fallback is not None:
        check_text("fallback", body.fallback)
        if body.options and body.fallback not in body.options:
            raise InvalidInput("fallback", f"one of {', '.join(body.options)}")
    if body.to == body.asker:
        raise InvalidInput("to", "nobody asks oneself")
    if body.to is None and body.task is None:
        raise InvalidInput("to", "say who shall answer")


def _attempt(turn: Turn, fact: Fact, task_id: TaskId, fence: Fence | None) -> Task:
    """Return the task of an attempt whose agent works; raises `Stale`."""
    task, machine = turn.view.tasks.get(task_id), fact.actor.machine
    if task is None or machine is None or fence is None or not holds(task, machine, fence):
        raise Stale("this attempt is over: nothing more can be asked for it")
    if task.phase is Phase.LANDING or task.landing_only:
        raise Stale("this attempt's agent is done: nothing more can be asked for it")
    return task


def _check_room(view: PoolView, asker: Address, task: Task | None) -> None:
    if task is not None and len(task.asks) >= limits.ASKS_PER_TASK:
        raise TooManyAsks(f"a task has at most {limits.ASKS_PER_TASK} open questions")
    if len(view.asks) >= limits.ASKS_MAX:
        raise TooManyAsks(f"at most {limits.ASKS_MAX} questions are open at a time")
    if sum(ask.asker == asker for ask in view.asks.values()) >= limits.ASKS_PER_ASKER:
        raise TooManyAsks(f"at most {limits.ASKS_PER_ASKER} questions of one are open at a time")


def _find(turn: Turn, fact: Fact, ask_id: AskId) -> Ask:
    row = turn.view.asks.get(ask_id) or turn.row(Table.ASK, ask_id, fact.found)
    if not isinstance(row, Ask) or row.project != fact.actor.project:
        raise NotFound(f"there is no question {ask_id}")
    return row


def _check_open(ask: Ask) -> None:
    if ask.state is AskState.OPEN:
        return
    how = f"answered by {ask.answered_by}" if ask.answered_by is not None else ask.state.value
    raise AskOver(f"this question is over: {how}")


def _time_is_up(turn: Turn, ask: Ask) -> None:
    if ask.fallback is not None:
        _go_on(turn, questions.end(turn, ask, AskState.ANSWERED, ask.fallback, HUB))
    else:
        _go_on(turn, questions.end(turn, ask, AskState.EXPIRED))


def _go_on(turn: Turn, ask: Ask) -> None:
    """Let the task of a question that ended hear of it."""
    if ask.task is None:
        return
    task = turn.view.tasks[ask.task]
    told = ask.state is not AskState.WITHDRAWN
    by = f" by {ask.answered_by}" if ask.answered_by is not None else ""
    detail = f"question {ask.id} {ask.state.value}{by}"
    turn.move(task, moves.AskEnded(ask.id, told), EventKind.ANSWERED, detail)


def _free_slot(turn: Turn, task: Task) -> None:
    asked = moves.StopAsked(StopReason.ASKED)
    task = turn.move(task, asked, EventKind.STOP_ASKED, "its question has no answer yet")
    assert task.machine is not None
    turn.effects.append(Stop(task.machine, task.id, task.fence, StopReason.ASKED))


HANDLERS: Final[Mapping[type[facts.Body], Callable[[Turn, Fact, Any], Reply | None]]] = {
    PutAsk: put,
    AnswerAsk: answer,
    WithdrawAsk: withdraw,
    HearAsk: heard,
    AskDue: due,
}
"""What each fact about questions comes to, for the table of `core/pool.py`."""
