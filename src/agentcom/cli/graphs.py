"""`agentcom task graph`: what waits for what, as a tree, as JSON, or for Graphviz."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import click

from agentcom.cli import output
from agentcom.cli.errors import CommandFailed, Exit

if TYPE_CHECKING:
    from agentcom.protocol.shown import GraphEdge, GraphShown, GraphTask

_COLOURS: Final[Mapping[str, str]] = {
    "completed": "palegreen",
    "failed": "salmon",
    "cancelled": "lightgrey",
    "running": "lightblue",
    "assigned": "lightblue",
}


@click.command("graph")
@click.argument("task_id", metavar="[ID]", required=False)
@click.option("--group", metavar="NAME", help="All tasks of a group.")
@click.option("--dot", is_flag=True, help="For Graphviz: pipe it into dot -Tsvg.")
@click.option("--json", "as_json", is_flag=True, help="Tasks and edges as JSON.")
def graph(task_id: str | None, group: str | None, dot: bool, as_json: bool) -> None:
    """Show what a task waits for, what waits for it, and its sub-tasks, with their states.

    \b
    Examples:
      agentcom task graph @last
      agentcom task graph --group release --dot | dot -Tsvg > release.svg
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api

    if (task_id is None) == (group is None):
        raise CommandFailed(
            "name a task or a group",
            hint="agentcom task graph ID, or --group NAME",
            exit_code=Exit.USAGE,
            code="usage",
        )
    hub = api.connect()
    found = hub.graph(task=hub.resolve(task_id) if task_id else None, group=group)
    if as_json:
        tasks = [output.row_of(task) for task in found.tasks]
        edges = [output.row_of(edge) for edge in found.edges]
        click.echo(json.dumps({"tasks": tasks, "edges": edges, "more": found.more}))
        return
    for line in dot_lines(found) if dot else tree_lines(found):
        click.echo(line)
    if found.more:
        output.talk("note: there are more tasks than are shown")


def tree_lines(found: "GraphShown") -> Iterator[str]:
    """Yield a graph as an indented tree; what was shown before is only named again."""
    tasks: dict[str, GraphTask] = {task.id: task for task in found.tasks}
    below: dict[str, list[GraphEdge]] = {}
    for one in found.edges:
        below.setdefault(one.on, []).append(one)
    later = {one.task for one in found.edges}
    shown: set[str] = set()
    stack: list[tuple[str, str, GraphEdge | None]] = []
    stack += [("", task.id, None) for task in reversed(found.tasks) if task.id not in later]
    while stack:
        indent, task_id, edge = stack.pop()
        again = task_id in shown
        yield indent + _words(tasks[task_id], edge) + ("  (above)" if again else "")
        if not again:
            shown.add(task_id)
            next_ones = reversed(below.get(task_id, ()))
            stack += [(f"{indent}  ", one.task, one) for one in next_ones]


def dot_lines(found: "GraphShown") -> Iterator[str]:
    """Yield a graph in the language of Graphviz."""
    yield "digraph tasks {"
    yield "  node [shape=box, style=filled, fillcolor=white];"
    for task in found.tasks:
        label = _quoted(f"{output.short(task.id)} {output.plain(task.title)}\n{_state(task)}")
        colour = _COLOURS.get(task.state.value, "white")
        yield f"  {_quoted(task.id)} [label={label}, fillcolor={colour}];"
    for edge in found.edges:
        style = "dashed" if edge.kind == "parent" else "solid"
        said = _quoted(_edge_words(edge))
        yield f"  {_quoted(edge.on)} -> {_quoted(edge.task)} [label={said}, style={style}];"
    yield "}"


def _words(task: "GraphTask", edge: "GraphEdge | None") -> str:
    how = _edge_words(edge) if edge is not None else ""
    parts = (output.short(task.id), _state(task), output.plain(task.title), f"({how})" * bool(how))
    return "  ".join(part for part in parts if part)


def _state(task: "GraphTask") -> str:
    detail = task.wait or task.phase or task.failure
    return f"{task.state.value} ({detail.value})" if detail else task.state.value


def _edge_words(edge: "GraphEdge") -> str:
    words = {"depends": "", "reviews": "review", "parent": "sub-task"}[edge.kind]
    more = ["any end"] if edge.condition.value == "any_end" else []
    more += [f"else {edge.on_failure.value}"] if edge.on_failure.value != "fail" else []
    more += ["with its sub-tasks"] if edge.children else []
    return ", ".join(part for part in (words, *more) if part)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
