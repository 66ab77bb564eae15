"""`agentcom budget`: what a project, an agent or a submitter may spend."""

from collections.abc import Mapping
from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

PERIODS: Final = ("day", "total")
FIELDS: Final = ("scope", "period", "limits", "spent", "running", "closed", "renews_at")
_SCOPE: Final = click.argument("scope", metavar="SCOPE")
_PER: Final = click.option(
    "--per", type=click.Choice(PERIODS), default="total", show_default=True, help="Days of UTC."
)


def _amount(row: Mapping[str, Any], name: str) -> str:
    limit, spent = row["limits"].get(name), row["spent"].get(name, 0)
    if limit is None:
        return ""
    if name == "cost_micros":
        return f"{output.dollars(spent)} of {output.dollars(limit)}"
    if name == "wall_ms":
        return f"{output.span(spent)} of {output.span(limit)}"
    return f"{spent:,} of {limit:,}"


_TABLE: Final = (
    Column("SCOPE", lambda row: row["scope"]),
    Column("PER", lambda row: row["period"]),
    Column("COST", lambda row: _amount(row, "cost_micros")),
    Column("TOKENS", lambda row: _amount(row, "tokens")),
    Column("TIME", lambda row: _amount(row, "wall_ms")),
    Column("TURNS", lambda row: _amount(row, "turns")),
    Column("RUNNING", lambda row: row["running"]),
    Column("GIVES", lambda row: "nothing" if row["closed"] else "work"),
)


@click.group(cls=Group)
def budget() -> None:
    """Bound what is spent. SCOPE is project:NAME, agent:NAME or submitter:NAME."""


@budget.command("ls", cls=output.JsonCommand, fields=FIELDS)
def ls(as_json: tuple[str, ...] | None) -> None:
    """List budgets, and what of them is spent."""
    from agentcom.cli import api

    output.listing(api.connect().budgets(), _TABLE, as_json=as_json)


@budget.command("set")
@_SCOPE
@_PER
@click.option("--limit", required=True, metavar="LIMITS", help="cost=20,tokens=5M,turns=9,wall=8h")
def set_(scope: str, per: str, limit: str) -> None:
    """Give a scope a budget, or change it; what is spent already counts.

    \b
    Examples:
      agentcom budget set project:default --per day --limit cost=20
      agentcom budget set submitter:ada --limit tokens=50M,turns=200
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api, specs

    api.connect().set_budget(scope, per, specs.budget(limit))
    output.talk(f"{scope} may spend {limit}{' a day' if per == 'day' else ''}")


@budget.command("rm")
@_SCOPE
@_PER
def rm(scope: str, per: str) -> None:
    """Take a budget away: nothing bounds that scope any more."""
    from agentcom.cli import api

    api.connect().remove_budget(scope, per)
    output.talk(f"{scope} has no budget {'by the day' if per == 'day' else 'in all'} any more")
