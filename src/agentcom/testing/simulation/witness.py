"""Looks at what machines believe and what the hub says: leases, effects, and promises to people.

The invariants I1, I3, I5 and I8, and that no finished result is dropped.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from agentcom.model.batch import usage_key
from agentcom.model.ids import Fence, MachineId, TaskId
from agentcom.model.replies import Reply, Submitted
from agentcom.model.result import ReportKind
from agentcom.protocol import codec, frames
from agentcom.sidecar import machine, machine_attempts
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Key
from agentcom.testing.simulation.auditor import Auditor
from agentcom.testing.simulation.history import History
from agentcom.testing.simulation.machine_node import MachineNode
from agentcom.testing.simulation.people import Promises
from agentcom.testing.simulation.trace import Trace

_TELLING: Final = (b'{"type":"assign"', b'{"type":"event"', b'{"type":"reply"')
_REPLY: Final[msgspec.json.Decoder[Reply]] = msgspec.json.Decoder(Reply)
_BEGINS: Final = (
    frames.Beat,
    frames.LandFrame,
    values.Stored,
    values.Stopped,
    values.Ended,
    values.PhaseReached,
)
"""Facts after which a machine may begin to believe that an attempt is its own."""


class Witness:
    """Sees all machines at once."""

    def __init__(
        self, auditor: Auditor, promises: Promises, trace: Trace, now_us: Callable[[], int]
    ) -> None:
        self.nodes: list[MachineNode] = []
        self.finished: dict[tuple[TaskId, Fence], str] = {}
        """Results that were on a machine's disk, and whose."""
        self.turns: dict[str, str] = {}
        """Turns that were on a machine's disk, by the keys of their rows, and whose."""
        self.cloned: dict[MachineId, None] = {}
        """Identities that two computers had: the hub believes each of what it says of the other."""
        self.history = History()
        self._unsure: dict[TaskId, None] = {}
        """Tasks from before a restore: a machine that slept hears its answers only now."""
        self._answers: dict[tuple[MachineId, TaskId, Fence], bool] = {}
        self._now_us = now_us
        self._auditor = auditor
        self._promises = promises
        self._trace = trace

    def after(self, node: MachineNode, fact: values.Fact) -> None:
        """Look at a machine that has just decided."""
        if isinstance(fact, _BEGINS):
            self._check_once(node)
            self._check_holders(node)
        if isinstance(fact, values.Stored):
            self._note_turns(node, fact.key)
            if fact.stage in machine_attempts.REPORTS:
                self._note_result(node, fact.key)
        match fact:
            case frames.Assign(assignment=assignment):
                self.history.assigned(assignment.task, assignment.fence, self._now_us())
                self._check_pushed(node, fact)
            case frames.Ack():
                self._check_answer(node, fact)
            case _:
                pass

    def ordered(self, node: MachineNode, order: values.Order) -> None:
        """Look at what a machine is about to do."""
        match order:
            case values.Send(frames.Finish() as frame):
                key = Key(frame.task, frame.fence)
                self.history.reported(key.task, key.fence, node.machine, self._now_us())
                stored = self._stored(node, key)
                safe = stored is not None and stored.result is not None
                safe = safe or key.text in node.disk.refused
                self._trace.check(
                    "a result is stored before it is reported", safe, (node.name, key)
                )
            case values.Start(record):
                safe = self._stored(node, record.key) is not None
                self._trace.check(
                    "a fence is stored before work begins", safe, (node.name, record.key)
                )
            case _:
                pass

    def _check_answer(self, node: MachineNode, ack: frames.Ack) -> None:
        """The same result gets the same answer (I5)."""
        if ack.of is ReportKind.FINISH:
            name = (node.machine, ack.task, ack.fence)
            before = self._answers.setdefault(name, ack.applied)
            same = ack.applied or not before or ack.task in self._unsure
            self._trace.check("I5 one result, one answer", same, (node.name, ack))
            at = self._now_us()
            self.history.answered(ack.task, ack.fence, node.machine, at, applied=ack.applied)

    def _stored(self, node: MachineNode, key: Key) -> values.Record | None:
        data = node.disk.held.get(key.text) or node.disk.kept.get(key.text)
        return msgspec.json.decode(data, type=values.Record) if data else None

    def restored(self) -> None:
        """Forget what an older hub has answered."""
        self._answers.clear()
        self.turns.clear()  # of an attempt that was stopped nobody keeps them
        self._unsure.update({task: None for task, _ in self._auditor.issued})
        self.history.clear()

    def _check_once(self, node: MachineNode) -> None:
        """A machine runs one attempt of a task, whatever it believes (I3)."""
        attempts = node.view.attempts.items() if node.view else ()
        tasks = [key.task for key, one in attempts if one.stage in machine_attempts.LIVE]
        once = len(tasks) == len(set(tasks))
        self._trace.check("I3 a machine runs one attempt of a task", once, tasks)

    def _check_holders(self, node: MachineNode) -> None:
        """Never two holders whose own lease clock says "valid" (I3)."""
        mine = self._believed(node)
        if not mine:
            return
        if node.machine in self.cloned:
            return
        for other in self.nodes:
            if other is node or other.machine in self.cloned:
                continue
            both = mine & self._believed(other)
            self._trace.check(
                "I3 never two holders of one task", not both, (node.name, other.name, both)
            )

    def _believed(self, node: MachineNode) -> set[TaskId]:
        view = node.view
        if view is None or not machine.lease_valid(view, node.now):
            return set()
        return {
            key.task
            for key, attempt in view.attempts.items()
            if attempt.stage in machine_attempts.BELIEVED
        }

    def _note_result(self, node: MachineNode, key: Key) -> None:
        record = self._stored(node, key)
        if record is not None and record.result is not None:
            self.finished.setdefault((key.task, key.fence), node.name)

    def counted_on(self) -> dict[str, str]:
        """Return the turns that must be counted; of an identity that two had, one's may be lost."""
        apart = {node.name for node in self.nodes if node.machine in self.cloned}
        return {key: whose for key, whose in self.turns.items() if whose not in apart}

    def _note_turns(self, node: MachineNode, key: Key) -> None:
        data = node.disk.held.get(key.text)
        if data is None or b'"turns"' not in data:
            return
        for turn in msgspec.json.decode(data, type=values.Record).turns:
            self.turns.setdefault(usage_key(key.task, key.fence, turn.turn), node.name)

    def gone(self, node: MachineNode) -> None:
        """Take note that a computer and its disk are no more: what only it had is lost."""
        for name in [name for name, whose in self.finished.items() if whose == node.name]:
            del self.finished[name]
        self.turns = {key: whose for key, whose in self.turns.items() if whose != node.name}

    def hub_says(self, payload: bytes) -> None:
        """Look at what leaves the hub: it tells only of what is durable (I8)."""
        if not payload.startswith(_TELLING):
            return
        frame = codec.decode_from_hub(payload)
        books, check = self._auditor.books, self._trace.check
        match frame:
            case frames.Assign(assignment=assignment):
                issued = (assignment.task, assignment.fence) in self._auditor.issued
                check("I8 no effect before its commit", issued, assignment)
            case frames.EventFrame(seq=seq):
                check("I8 no effect before its commit", seq <= books.records, frame)
            case frames.ReplyFrame(reply=reply):
                answer = _REPLY.decode(bytes(reply))
                if isinstance(answer, Submitted):
                    stored = all(task in books.tasks for task in answer.tasks)
                    check("I8 no effect before its commit", stored, answer)
            case _:
                pass

    def _check_pushed(self, node: MachineNode, frame: frames.Assign) -> None:
        assignment = frame.assignment
        issue = self._auditor.issued[assignment.task, assignment.fence]
        same = issue.machine == node.machine and issue.agent == assignment.agent
        self._trace.check("I11 a push goes to the holder", same, (node.name, assignment))

    # The end --------------------------------------------------------------------------------------

    def check_promises(self) -> None:
        """Every acknowledged task is stored (I1)."""
        tasks = self._auditor.books.tasks
        for task in self._promises.tasks:
            self._trace.check("I1 no acknowledged task is lost", task in tasks, task)

    def check_results(self) -> None:
        """Every result that was on a machine's disk is at the hub, or still on its way."""
        at_hub = {(row.task, row.fence) for row in self._auditor.books.results.values()}
        for name in self.finished:
            self._trace.check("no finished result is dropped", name in at_hub, name)

    def check_history(self) -> None:
        """Assigning and completing are linearizable."""
        problems = self.history.problems(besides=self._auditor.adopted)
        self._trace.check("assign and complete are linearizable", not problems, problems)

    def check_all_ended(self) -> None:
        """Everything that was acknowledged has ended (I15)."""
        for name in self._promises.tasks:
            task = self._auditor.books.tasks[name]
            self._trace.check("I15 finite work ends", task.state.terminal, task)
