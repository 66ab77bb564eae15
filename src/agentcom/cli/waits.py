"""The picture of who waits for whom, as a graph that Graphviz draws."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agentcom.cli import output

_TITLE_CHARS: Final = 40


def dot(found: Mapping[str, Any]) -> str:
    """Return the picture in the DOT language: an arrow leads to what must end first."""
    lines = ["digraph waits {", "  rankdir=LR;", *_lines(found["waits"])]
    if found["left_out"]:
        lines.append(f"  rest [shape=plaintext, label={_quoted(_rest(found['left_out']))}];")
    return "\n".join([*lines, "}"])


def _rest(count: int) -> str:
    return f"and {count} more waits"


def _lines(waits: list[Mapping[str, Any]]) -> Iterator[str]:
    for row in waits:
        task = _quoted(row["task"])
        label = f"{row['task'][-6:]} {row['title'][:_TITLE_CHARS]}"
        yield f"  {task} [label={_quoted(label)}];"
        why = _quoted(f"{row['by']} {row['what']}".strip())
        for other in row["on"]:
            yield f"  {task} -> {_quoted(other)} [label={why}];"
        if row["more"] or not row["on"]:
            many = f"{row['what']}: {row['more']} others" if row["more"] else row["what"]
            yield f"  {task} -> {_quoted(many)} [label={_quoted(row['by'])}];"


def _quoted(text: str) -> str:
    plain = output.plain(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'
