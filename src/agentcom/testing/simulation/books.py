"""What the auditor knows of the stored rows, kept from the batches that it saw."""

from dataclasses import dataclass, field

from agentcom.model.agent import Account, Agent
from agentcom.model.graph import Edge
from agentcom.model.hold import Hold
from agentcom.model.ids import AccountId, AgentId, Fence, MachineId, TaskId
from agentcom.model.limit import Limit, Usage
from agentcom.model.pause import Pause
from agentcom.model.result import KeptResult
from agentcom.model.task import Task, Wait


@dataclass(slots=True)
class Books:
    """What the auditor knows of the stored rows."""

    tasks: dict[TaskId, Task] = field(default_factory=dict)
    live: dict[TaskId, Task] = field(default_factory=dict)
    results: dict[str, KeptResult] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    edges: dict[TaskId, dict[TaskId, Edge]] = field(default_factory=dict)
    agents: dict[AgentId, Agent] = field(default_factory=dict)
    accounts: dict[AccountId, Account] = field(default_factory=dict)
    machine_ids: dict[str, None] = field(default_factory=dict)
    rules: dict[str, Limit] = field(default_factory=dict)
    rates: dict[str, Usage] = field(default_factory=dict)
    resources: dict[MachineId, dict[str, int]] = field(default_factory=dict)
    pauses: dict[str, Pause] = field(default_factory=dict)
    applied: dict[tuple[TaskId, Fence], MachineId] = field(default_factory=dict)
    length: int = 0
    """Batches in the journal."""
    records: int = 0

    def put(self, task: Task) -> None:
        """Take down a task's row."""
        self.tasks[task.id] = task
        if task.state.terminal:
            self.live.pop(task.id, None)
        else:
            self.live[task.id] = task

    def waits_for_a_retry(self, task: Task) -> bool:
        """Return whether what a task waits for is over, and not as it must be."""
        if task.wait is not Wait.DEPENDENCIES:
            return False
        edges = self.edges.get(task.id, {}).values()
        return any(not e.met and self.tasks[e.on].state.terminal for e in edges)
