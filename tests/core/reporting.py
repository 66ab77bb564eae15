"""What tests of reports send."""

from agentcom.core import facts
from agentcom.model.ids import TaskId
from agentcom.testing.world import machine
from tests.core.acts import Pool, done

M1, M2 = machine("m1"), machine("m2")


def finished(world: Pool, task: TaskId, **fields: object) -> facts.Finished:
    return facts.Finished(task, world.task(task).fence, done(**fields))
