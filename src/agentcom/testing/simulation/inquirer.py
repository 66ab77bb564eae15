"""Agents and people who ask, and whether each question ends once and reaches who asked.

They call the hub as MCP and HTTP do. Some questions are answered soon, some late, some by two at
once, some by nobody. Every durable batch is looked at, and every attempt that begins.
"""

from collections.abc import Iterable
from typing import Any, Final

from agentcom.model.ask import Ask, AskState
from agentcom.model.batch import Batch, Delete, Insert, Table, Update
from agentcom.model.errors import AgentComError, AskOver
from agentcom.model.event import EventKind
from agentcom.model.identity import Identity
from agentcom.model.ids import Fence, WallTime
from agentcom.model.limits import ASK_HOLD_MS, ASKS_TOLD
from agentcom.model.task import Task, TaskState, Wait
from agentcom.protocol import calls, told
from agentcom.sidecar.machine_values import Record
from agentcom.testing.simulation.kernel import MINUTE, MS, SECOND
from agentcom.testing.simulation.talker import (
    AGAIN_US,
    OPERATOR,
    OWNER,
    TRIES_MAX,
    Attempt,
    Talker,
    agent_of,
    person,
)

PAUSE_US: Final = 20 * SECOND
"""Mean time between two who ask."""
SOON_MS: Final = 180_000
"""What ends later than this is answered when a run comes to its end."""
SLOT_US: Final = ASK_HOLD_MS * MS + 6 * MINUTE
"""An attempt that asks is told to stop within this, whatever the clocks do."""
_TOLD: Final = (AskState.ANSWERED, AskState.EXPIRED)
_HEARD: Final = ", heard"


class Inquirer(Talker):
    """All questions of a run: it has them put and answered, and knows their rows."""

    kind = "asks"
    pause_us = PAUSE_US

    def __init__(self, *of_a_run: Any) -> None:
        super().__init__(*of_a_run)
        self.rows: dict[str, Ask] = {}
        self._since: dict[str, int] = {}
        """Open questions, and when they were put."""
        self._heard: set[str] = set()

    @property
    def rests(self) -> bool:
        """Whether no question is open."""
        return not self._since

    def rest(self) -> None:
        """Answer what would not end soon by itself."""
        wall = self._hub.clock.now().wall
        for ask_id in list(self._since):
            ends = self.rows[ask_id].deadline_at
            if ends is None or ends > wall + SOON_MS:
                self._answer(self.rows[ask_id], OPERATOR)

    def restored(self, batches: Iterable[Batch]) -> None:
        """Begin anew with what a restored store holds."""
        self.rows.clear()
        self._since.clear()
        self._heard.clear()
        for batch in batches:
            self._take(batch)

    # Asking ---------------------------------------------------------------------------------------

    def _think(self) -> None:
        rng = self._rng
        held = self._held()
        who = person(OWNER)
        attempt: Attempt | None = None
        to: str | None = "op" if rng.random() < 0.5 else None
        if held and rng.random() < 0.8:
            task = rng.choice(held)
            attempt = (task.id, task.fence)
            who = agent_of(task)
        elif to is None:
            agents = list(self._books().agents)
            to = f"agent:{rng.choice(agents)}" if agents else "op"
        call = calls.AskPut(
            question="which?",
            to=to,
            options=rng.choice(((), ("red", "blue"))),
            deadline_ms=rng.choice((None, 20_000, 150_000, 600_000)),
            fallback=rng.choice((None, "red")),
            wait_ms=rng.choice((0, 2_000, 20_000)),
        )
        self._ask(call, who, attempt, self._next("ask"))

    def _next(self, what: str) -> str:
        self._count += 1
        return f"{what}-{self._count}"

    def _ask(
        self,
        call: calls.AskPut,
        who: Identity,
        attempt: Attempt | None,
        key: str,
        tries: int = 0,
    ) -> None:
        """Ask, and ask again under the same key if nobody knows what came of it."""

        def answered(answer: object) -> None:
            if isinstance(answer, AgentComError):
                self._trace.counts[f"ask: {answer.code}"] += 1
                if answer.retryable and tries < TRIES_MAX and not self.stopped:
                    self._kernel.after(AGAIN_US, self._ask, call, who, attempt, key, tries + 1)
            elif isinstance(answer, told.AskShown):
                self._put(answer.ask, who, attempt)

        self._hub.converse(call, who, answered, key=key, attempt=attempt)

    def _put(self, ask: Ask, who: Identity, attempt: Attempt | None) -> None:
        """Let others answer a question, soon or late or never, and its asker look again."""
        self._trace.counts[f"ask: {ask.state}"] += 1
        if ask.state is not AskState.OPEN:
            return
        rng = self._rng
        if rng.random() < 0.5:
            show = calls.AskShow(ask=ask.id, wait_ms=20_000)
            self._later(show, who, attempt, 60)
        chance = rng.random()
        if chance < 0.1:
            self._later(calls.AskWithdraw(ask=ask.id), who, attempt, 200)
        elif chance < 0.7:
            for _ in range(rng.choice((1, 1, 2))):
                after_us = int(rng.random() * rng.choice((30, 400)) * SECOND)
                self._kernel.after(after_us, self._answer, ask, OPERATOR)

    def _later(self, call: calls.Call, who: Identity, attempt: Attempt | None, s: int) -> None:
        def look() -> None:
            self._hub.converse(call, who, _ignore, key=self._next("look"), attempt=attempt)

        self._kernel.after(int(self._rng.random() * s * SECOND), look)

    def _answer(self, ask: Ask, who: Identity) -> None:
        def answered(answer: object) -> None:
            if isinstance(answer, AskOver):
                self._trace.counts["ask: a second answer"] += 1

        said = self._rng.choice(ask.options or ("red", "green"))
        call = calls.AskAnswer(ask=ask.id, answer=said)
        self._hub.converse(call, who, answered, key=self._next("answer"))

    # Looking --------------------------------------------------------------------------------------

    def committed(self, batch: Batch) -> None:
        """Look at a durable batch, which the books have taken down."""
        self._take(batch)
        open_ = {self.rows[ask].task for ask in self._since}
        check = self._trace.check
        for change in batch.changes:
            task = None if isinstance(change, Delete) else change.row
            if isinstance(task, Task) and task.wait is Wait.ANSWER:
                check("a task waits only for open questions", task.id in open_, task)
            if isinstance(task, Task) and task.state.terminal:
                check("a question ends with its task", task.id not in open_, task)
        for append in batch.appends:
            live = self._books().live.get(append.record.task)
            if append.record.kind is EventKind.ASSIGNED and live is not None:
                begins = live.state is TaskState.ASSIGNED and not live.landing_only
                waits = begins and live.id in open_
                check("no attempt begins without the answer", not waits, live)
            elif append.record.kind is EventKind.COMPLETED:
                self._check_heard(self._books().tasks[append.record.task])
        self._check_slots()

    def began(self, record: Record) -> None:
        """Look at an attempt that begins: it knows how the questions before it ended."""
        row = self._books().tasks.get(record.key.task)
        if row is None or row.fence != record.key.fence or not row.state.held:
            return  # of a history that was lost, or over
        told = [ask for ask in self.rows.values() if ask.task == row.id and ask.state in _TOLD]
        ended = [ask for ask in told if _before(ask, row.fence)]
        newest = sorted(ended, key=lambda ask: (ask.ended_at or 0, ask.id))[-ASKS_TOLD:]
        names = [ask.id for ask in record.asks]
        self._trace.check("no answer is told twice", len(names) == len(set(names)), names)
        if len(told) <= ASKS_TOLD:  # of more, its own may have taken the places of the oldest
            known = {ask.id: ask for ask in record.asks}
            same = all(known.get(ask.id) == ask for ask in newest)
            self._trace.check("an attempt knows the answers", same, (newest, record.asks))

    def check_over(self, now: WallTime) -> None:
        """At the end of a run every question has ended."""
        self._trace.check("every question ends", not self._since, (now, self._since))

    def _take(self, batch: Batch) -> None:
        check = self._trace.check
        for change in batch.changes:
            match change:
                case Insert(row=Ask() as ask):
                    is_open = ask.state is AskState.OPEN
                    ended_at_once = ask.version > 1  # in the batch in which it was put
                    check("a question begins open", is_open or ended_at_once, ask)
                    self.rows[ask.id] = ask
                    if is_open:
                        self._since[ask.id] = self._kernel.now_us
                case Update(row=Ask() as ask):
                    before = self.rows[ask.id].state
                    once = before is AskState.OPEN and ask.state is not AskState.OPEN
                    check("a question ends once", once, (self.rows[ask.id], ask))
                    self.rows[ask.id] = ask
                    del self._since[ask.id]
                case Delete(table=Table.ASK, key=key):
                    check("no open question is deleted", key not in self._since, key)
                    del self.rows[key]
                case _:
                    pass
        for append in batch.appends:
            detail = append.record.detail or ""
            if append.record.kind is EventKind.ANSWERED and detail.endswith(_HEARD):
                self._heard.add(detail.removesuffix(_HEARD).removeprefix("question "))

    def _check_heard(self, task: Task) -> None:
        for ask in self.rows.values():
            if ask.task == task.id and ask.fence == task.fence and ask.state in _TOLD:
                heard = ask.id in self._heard
                self._trace.check("no attempt is done before it has heard", heard, (ask, task))

    def _check_slots(self) -> None:
        for ask_id, since_us in self._since.items():
            ask = self.rows[ask_id]
            task = self._books().live.get(ask.task) if ask.task is not None else None
            keeps = task is not None and task.state.held and task.fence == ask.fence
            if keeps and task is not None and task.stop_reason is None:
                short = self._kernel.now_us - since_us <= SLOT_US
                self._trace.check("a question keeps a slot for a while only", short, (ask, task))


def _before(ask: Ask, fence: Fence) -> bool:
    return ask.fence is not None and ask.fence < fence


def _ignore(_answer: object) -> None:
    """Nobody looks at it; the rows show what was done."""
