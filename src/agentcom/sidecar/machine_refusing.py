"""Why this machine does not take an assignment, decided before anything of it is stored. Pure."""

from agentcom.model import errors, ids
from agentcom.model.ids import AgentId, TaskId
from agentcom.sidecar.machine_attempts import BUSY
from agentcom.sidecar.machine_values import Record, View


def refusal(view: View, record: Record) -> str | None:
    """Return why an assignment is declined; None if it is taken."""
    try:
        ids.check_name(record.key.task)  # it names files and refs here
    except errors.InvalidInput as error:
        return error.message
    assignment = record.assignment
    agent = next((spec for spec in view.agents if spec.name == assignment.agent), None)
    if agent is None:
        return f"this machine has no agent {assignment.agent}"
    if view.draining:
        return "this machine takes no new work"
    if assignment.landing_only:
        return None  # git alone does that
    if agent.problem:
        return f"{agent.name}: {agent.problem}"
    if _busy(view, agent.name, record.key.task) >= agent.slots:
        return f"all {agent.slots} slots of {agent.name} are taken"
    return None


def _busy(view: View, agent: AgentId, task: TaskId) -> int:
    return sum(
        attempt.stage in BUSY and attempt.agent == agent and attempt.key.task != task
        for attempt in view.attempts.values()
    )
