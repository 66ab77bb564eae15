"""Graphs and groups, as people see them; and against a real hub."""

import json

import pytest

from agentcom.cli.graphs import dot_lines, tree_lines
from agentcom.model.graph import Condition, OnFailure
from agentcom.model.ids import AgentId, TaskId
from agentcom.model.task import Phase, TaskState, Wait
from agentcom.protocol.shown import GraphEdge, GraphShown, GraphTask
from tests.cli.terminal import Shell

A, B, C = TaskId("a"), TaskId("b"), TaskId("c")
GRAPH = GraphShown(
    tasks=(
        GraphTask(id=A, title='Say "hi"', state=TaskState.COMPLETED),
        GraphTask(
            id=B,
            title="Look",
            state=TaskState.RUNNING,
            phase=Phase.WORKING,
            agent=AgentId("bob"),
        ),
        GraphTask(id=C, title="Last", state=TaskState.WAITING, wait=Wait.DEPENDENCIES),
    ),
    edges=(
        GraphEdge(task=B, on=A, kind="reviews"),
        GraphEdge(task=C, on=A, kind="parent"),
        GraphEdge(
            task=C,
            on=B,
            kind="depends",
            condition=Condition.ANY_END,
            on_failure=OnFailure.SKIP,
            children=True,
        ),
    ),
)


def test_a_tree_has_each_task_below_what_it_waits_for_and_tells_it_once() -> None:
    assert list(tree_lines(GRAPH)) == [
        'a  completed  Say "hi"',
        "  b  running (working)  Look  (review)",
        "    c  waiting (dependencies)  Last  (any end, else skip, with its sub-tasks)",
        "  c  waiting (dependencies)  Last  (sub-task)  (above)",
    ]


def test_graphviz_gets_every_task_and_edge_with_its_text_quoted() -> None:
    lines = list(dot_lines(GRAPH))

    assert lines[0] == "digraph tasks {"
    assert lines[-1] == "}"
    assert '  "a" [label="a Say \\"hi\\"\\ncompleted", fillcolor=palegreen];' in lines
    assert '  "a" -> "c" [label="sub-task", style=dashed];' in lines
    assert sum("->" in line for line in lines) == 3


@pytest.mark.xdist_group("cli-fleet")
def test_a_group_is_submitted_shown_approved_and_cancelled(fleet: Shell) -> None:
    gate = fleet("submit", "Go?", "--approval", "--group", "cli").out.strip()
    after = fleet("submit", "--no-repo", "x", "--group", "cli", "--depends-on", f"{gate}:skip")
    last = after.out.strip()

    tree = fleet("task", "graph", "--group", "cli").out
    graph = json.loads(fleet("task", "graph", last, "--json").out)
    why = fleet("task", "why", last).out
    said = fleet("task", "reject", gate, "-m", "not now").out
    shown = json.loads(fleet("group", "show", "cli", "--json", "states,percent").out)
    watched = fleet("group", "watch", "cli", ok=False)
    retried = fleet("group", "retry", "cli").out
    cancelled = fleet("group", "cancel", "cli", "--reason", "enough").out
    listed = [row[0] for row in fleet("group", "ls").lines]
    neither = fleet("task", "graph", ok=False)

    assert tree.splitlines()[1].endswith("x  (else skip)")
    assert [edge["on_failure"] for edge in graph["edges"]] == ["skip"]
    assert f"{gate[-6:]} is waiting" in why
    assert "failed" in said
    assert shown == {"states": {"failed": 1, "cancelled": 1}, "percent": 100}
    assert (watched.code, watched.out.strip()) == (1, "100%  1 cancelled, 1 failed")
    assert (retried, cancelled) == ("reopened: 2 tasks\n", "cancelled: 2 tasks\n")
    assert "cli" in listed
    assert neither.code == 2


@pytest.mark.xdist_group("cli-fleet")
def test_an_approval_lets_the_next_task_run(fleet: Shell) -> None:
    gate = fleet("submit", "Go?", "--approval").out.strip()

    approved = fleet("task", "approve", gate, "--json", "state").out

    assert json.loads(approved) == {"state": "completed"}
