"""`agentcom cost`: what agents spent."""

from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.output import Column

BY: Final = ("project", "agent", "model", "submitter", "task", "account", "day")
FIELDS: Final = (
    *("name", "turns", "cost_micros", "input", "cached", "written", "output"),
    *("included", "unpriced", "late", "wall_ms"),
)
_LIMIT: Final = 50


def _columns(by: str) -> tuple[Column, ...]:
    return (
        Column(by.upper(), lambda row: _name(row, by)),
        Column("TURNS", lambda row: row["turns"]),
        Column("INPUT", lambda row: row["input"]),
        Column("CACHED", lambda row: row["cached"]),
        Column("OUTPUT", lambda row: row["output"]),
        Column("TIME", lambda row: output.span(row["wall_ms"])),
        Column("COST", output.cost),
    )


def _name(row: output.Row, by: str) -> str:
    if row["name"]:
        return output.short(row["name"]) if by == "task" else str(row["name"])
    return "total" if row.get("total") else "unknown"


@click.command(cls=output.JsonCommand, fields=FIELDS)
@click.option("--by", type=click.Choice(BY), default="project", show_default=True)
@click.option("--since", default="7d", show_default=True, metavar="WHEN", help="7d, or 2027-01-31.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=_LIMIT, show_default=True)
def cost(as_json: tuple[str, ...] | None, by: str, since: str, limit: int) -> None:
    """Show what agents spent, the largest sum first.

    Days are those of UTC. What a subscription includes, and what models without a known price
    spent, is counted in turns beside the money.

    \b
    Examples:
      agentcom cost --by agent --since 24h
      agentcom cost --by day --since 30d --json name,cost_micros
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api, specs

    found = api.connect().costs(by=by, since=specs.since(since), limit=limit)
    rows: list[dict[str, Any]] = [output.row_of(group) for group in found.groups]
    if as_json is None and output.is_terminal() and rows:
        rows.append({**output.row_of(found.total), "total": True})
    output.listing(rows, _columns(by), as_json=as_json)
    if found.more:
        output.talk(f"note: only the first {limit} are shown: --limit shows more")
    if not rows:
        output.talk("note: nothing was spent in this time")
