"""Checks of graphs: what they must not blame."""

import pytest

from agentcom.model.graph import Edge, ReviewBy
from agentcom.model.ids import DEFAULT_PROJECT, AgentId, TaskId, UserId, WallTime
from agentcom.model.task import Task, TaskState
from agentcom.testing.simulation.graph_checks import GraphChecks
from agentcom.testing.simulation.kernel import Kernel
from agentcom.testing.simulation.trace import Trace, Violation

REVIEWED, REVIEW, ADA = TaskId("t1"), TaskId("t2"), AgentId("ada")


def given(*, landing_only: bool) -> None:
    """Let a review be given to the author of what it reviews."""
    checks = GraphChecks(Trace(Kernel()))
    checks._authors[REVIEWED] = ADA
    task = Task(
        id=REVIEW,
        project=DEFAULT_PROJECT,
        submitter=UserId("ann"),
        title="look at it",
        state=TaskState.ASSIGNED,
        changed_at=WallTime(1),
        agent=ADA,
        landing_only=landing_only,
    )
    edge = Edge(task=REVIEW, on=REVIEWED, review=ReviewBy.OTHER_AGENT)
    checks._check_review(task, {REVIEWED: edge})


def test_a_review_that_its_author_gets_is_told() -> None:
    with pytest.raises(Violation):
        given(landing_only=False)


def test_a_review_that_a_person_adopted_is_landed_by_any_machine() -> None:
    given(landing_only=True)
