"""Mail on its way to machines: letters for agents with an attempt go to the machine that has it.

They go at once, and again with each new session and each new attempt until they were seen; a
machine tells them apart by their sequences. What a machine has not confirmed is bounded, and so is
what its connection has not sent yet. Only memory is lost with a hub: then letters come again.

Letters to whoever works on a task go the same way, under the task's address as the agent's name.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from agentcom.core import mail
from agentcom.core.view import PoolView
from agentcom.hub import errands
from agentcom.hub.mailboxes import Mailboxes
from agentcom.hub.switchboard import Switchboard
from agentcom.model import address
from agentcom.model.address import Address
from agentcom.model.agent import Agent, Assignment
from agentcom.model.errors import AgentComError, NotAllowed, TooLarge
from agentcom.model.ids import AgentId, MachineId, ProjectId, TaskId
from agentcom.model.limits import LETTERS_AHEAD, LETTERS_TAKEN
from agentcom.model.message import Delivery, MessageId, mail_log, owner_of
from agentcom.protocol.frames import MailFrame, MailTaken
from agentcom.protocol.told import Letter

AGAIN_S: Final = 1.0
"""After so long a slow connection is tried again."""


class _Round:
    """What goes to one agent's machine."""

    __slots__ = ("brought", "cursor", "log", "out")

    def __init__(self, log: str) -> None:
        self.log = log
        self.cursor: int | None = None
        """Letters up to here are on their way; None: begin with the oldest open one."""
        self.brought = False
        """Whether any letter was sent."""
        self.out: set[int] = set()
        """Those that the machine has not confirmed."""


class MailDelivery:
    """Brings letters to machines, and notes how far they came."""

    def __init__(
        self, boxes: Mailboxes, switchboard: Switchboard, view: Callable[[], PoolView]
    ) -> None:
        self._boxes = boxes
        self._switchboard = switchboard
        self._view = view
        self._rounds: dict[AgentId, _Round] = {}
        self._told: set[AgentId] = set()
        """Tasks that were ever written to, by address."""
        self._knows_told = False
        """Whether the store was asked for those of before."""
        self._empty: dict[AgentId, ProjectId] = {}
        """Agents that have seen all letters of a project: at a new attempt nothing is read."""
        self._arrivals = 0
        self._due: dict[AgentId, None] = {}
        self._taken: dict[str, dict[int, Delivery]] = {}
        self._news = asyncio.Event()

    def arrived(self, to: Address) -> None:
        """Take note of a new letter."""
        if address.task_of(to) is not None:
            name = AgentId(to)
            self._told.add(name)
            if self._place(name) is not None:
                self._look_at(name)
            return
        agent = address.agent_of(to)
        if agent is None:
            return
        self._arrivals += 1
        self._empty.pop(agent, None)
        if mail.attempts(self._view(), agent):
            self._look_at(agent)

    def pushed(self, assignment: Assignment) -> None:
        """Take note of an assignment that was sent: nearly always there are no letters for it."""
        self._began_task(assignment.task)
        task = self._view().tasks.get(assignment.task)
        if task is None or self._empty.get(assignment.agent) != task.project:
            self.began(assignment.agent)

    def read(self, log: str, read: Sequence[MessageId]) -> None:
        """Tell a machine which letters its agent has read by itself: they need no turn any more.

        A machine that does not hear it shows them once more.
        """
        agent = address.agent_of(owner_of(log))
        row = self._view().agents.get(agent) if agent is not None else None
        if row is not None and agent in self._rounds:
            self._switchboard.bring(row.machine, MailFrame(agent=row.id, read=tuple(read)))

    def began(self, agent: AgentId) -> None:
        """Take note of a new attempt: it has seen no letter yet."""
        self._rounds.pop(agent, None)
        self._look_at(agent)

    def connected(self, machine: MachineId) -> None:
        """Take note of a machine's new session: what was on its way may be lost."""
        view = self._view()
        for agent in view.agents_of.get(machine, ()):
            self.began(agent)
        for task in view.held_by.get(machine, ()):
            self._began_task(task)

    def took(self, machine: MachineId, said: MailTaken) -> None:
        """Take note of letters that a machine has, or that its agent has seen.

        Raises:
            NotAllowed: the agent is another machine's.
            TooLarge: these are more than were ever on their way.
        """
        if len(said.seqs) > LETTERS_TAKEN:
            raise TooLarge(f"confirm at most {LETTERS_TAKEN} letters at once")
        under_way = self._rounds.get(said.agent)
        if address.task_of(Address(said.agent)) is not None:
            place = self._place(said.agent)
            if place is None or place.machine != machine:
                return  # its attempt is over: the next one is shown what this one was not
            name = place.log
        else:
            row = self._view().agents.get(said.agent)
            if row is None or row.machine != machine:
                raise NotAllowed(f"{said.agent} is not an agent of this machine")
            name = self._log_of(row) if under_way is None else under_way.log
        taken = self._taken.setdefault(name, {})
        for seq in said.seqs:
            if len(taken) < LETTERS_TAKEN or seq in taken:  # beyond that, they come again
                seen = said.seen or taken.get(seq) is Delivery.SEEN
                taken[seq] = Delivery.SEEN if seen else Delivery.DELIVERED
        if under_way is not None:
            under_way.out.difference_update(said.seqs)
        self._look_at(said.agent)

    def followed(self, name: str, seq: int) -> None:
        """Take note of a letter that went to a program which follows its mailbox."""
        taken = self._taken.setdefault(name, {})
        if len(taken) < LETTERS_TAKEN:  # beyond that, it is noted when it is read
            taken.setdefault(seq, Delivery.DELIVERED)
        self._news.set()

    async def run(self) -> None:
        """Bring and note until cancelled; a supervisor's child."""
        await errands.run(self._news, self.work, within_s=self._late_s)

    async def work(self) -> None:
        """Do what there is to do now."""
        if not self._knows_told:
            self._told |= {AgentId(one) for one in await self._boxes.tasks()}
            self._knows_told = True
        for name in tuple(self._taken):
            await self._note(name)
        for agent in tuple(self._due):
            del self._due[agent]
            brought = False
            try:
                brought = await self._bring(agent)
            finally:
                if not brought:
                    self._due[agent] = None

    def _late_s(self) -> float | None:
        return AGAIN_S if self._due or self._taken else None

    # Parts --------------------------------------------------------------------------------------

    def _began_task(self, task: TaskId) -> None:
        name = AgentId(address.of_task(task))
        if name in self._told or not self._knows_told:
            self.began(name)

    def _look_at(self, agent: AgentId) -> None:
        self._due[agent] = None
        self._news.set()

    def _log_of(self, row: Agent) -> str:
        project = mail.works_for(self._view(), row.id) or row.project
        return mail_log(project, address.of_agent(row.id))

    async def _note(self, name: str) -> None:
        taken = self._taken.pop(name)
        try:
            for state in (Delivery.DELIVERED, Delivery.SEEN):
                seqs = [seq for seq, reached in taken.items() if reached is state]
                if seqs:
                    await self._boxes.reach(name, seqs, state)
        except AgentComError:
            self._taken[name] = {**taken, **self._taken.get(name, {})}
            raise

    def _place(self, name: AgentId) -> "_Place | None":
        """Return where an agent, or whoever works on a task, is now, and its mailbox."""
        view, task = self._view(), address.task_of(Address(name))
        if task is not None:
            work = view.tasks.get(task)
            if work is None or work.machine is None or not work.state.held:
                return None
            return _Place(work.machine, work.project, mail_log(work.project, Address(name)))
        row, project = view.agents.get(name), mail.works_for(view, name)
        if row is None or project is None:
            return None
        return _Place(row.machine, project, mail_log(project, address.of_agent(name)))

    async def _bring(self, name: AgentId) -> bool:
        """Send what an agent's machine has room for; return whether it took that."""
        place = self._place(name)
        if place is None or place.machine not in self._switchboard.machines:
            self._rounds.pop(name, None)
            return True
        under_way = self._rounds.get(name)
        if under_way is None or under_way.log != place.log:
            under_way = self._rounds[name] = _Round(place.log)
        arrivals, whole = self._arrivals, under_way.cursor is None
        if not await self._send(name, place.machine, under_way):
            return False
        seen_all = whole and not under_way.brought and arrivals == self._arrivals
        if seen_all and address.task_of(Address(name)) is None:
            self._empty[name] = place.project
        return True

    async def _send(self, name: AgentId, machine: MachineId, to: _Round) -> bool:
        more = True
        while more and len(to.out) < LETTERS_AHEAD:
            start = to.cursor
            if start is None:
                start = (await self._boxes.head(to.log)).settled
            part = await self._boxes.read(to.log, start, LETTERS_AHEAD - len(to.out))
            letters = _unseen(part.letters)
            frame = MailFrame(agent=name, letters=letters)
            if letters and not self._switchboard.bring(machine, frame):
                return False
            to.out.update(letter.seq for letter in letters)
            to.brought = to.brought or bool(letters)
            to.cursor, more = part.cursor, part.more
        return True


class _Place(NamedTuple):
    """Where letters go."""

    machine: MachineId
    project: ProjectId
    log: str


def _unseen(letters: Sequence[Letter]) -> tuple[Letter, ...]:
    return tuple(one for one in letters if one.state in (Delivery.QUEUED, Delivery.DELIVERED))
