"""`agentcom limit`: bound what runs or starts at once, and weigh shares."""

import re
from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = ("scope", "concurrency", "rate", "per_ms", "weight", "taken", "waiting")
_RATE: Final = re.compile(r"(\d{1,7})/(\d{0,7})(s|m|h|d)")
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

_TABLE: Final = (
    Column("SCOPE", lambda row: row["scope"]),
    Column("AT ONCE", lambda row: _or_dash(row.get("concurrency"))),
    Column(
        "RATE",
        lambda row: f"{row['rate']} per {output.span(row['per_ms'])}" if row.get("rate") else "-",
    ),
    Column("WEIGHT", lambda row: _or_dash(row.get("weight"))),
    Column("RUNNING", lambda row: [f"{s} {n}" for s, n in (row.get("taken") or {}).items()]),
    Column("WAITING", lambda row: row.get("waiting") or 0),
)


@click.group(cls=Group)
def limit() -> None:
    """Bound what runs or starts at once, and weigh shares.

    A scope is project:NAME, submitter:NAME, repo:HOST/PATH, branch:HOST/PATH#NAME or key:NAME;
    * stands for each name by itself.
    """


@limit.command("ls", cls=output.JsonCommand, fields=FIELDS)
def ls(as_json: tuple[str, ...] | None) -> None:
    """List limits, and what is taken of them."""
    from agentcom.cli import api

    output.listing(api.connect().limits(), _TABLE, as_json=as_json)


@limit.command("set")
@click.argument("scope")
@click.option("--at-once", type=click.IntRange(0), help="Attempts at the same time; 0 is none.")
@click.option("--rate", metavar="N/TIME", help="Starts per time: 10/1h, 3/m.")
@click.option("--weight", type=float, help="Share beside others: 2 gets twice as much as 1.")
def set_(scope: str, at_once: int | None, rate: str | None, weight: float | None) -> None:
    """Set the limit of a scope; it replaces the one that was there. What runs goes on.

    \b
    Examples:
      agentcom limit set repo:* --at-once 3
      agentcom limit set key:deploy --at-once 1 --rate 4/1h
      agentcom limit set submitter:nightly --weight 0.2
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api

    wanted: dict[str, Any] = {"scope": scope, "concurrency": at_once, "weight": weight}
    if rate is not None:
        wanted |= _parse_rate(rate)
    api.connect().set_limit({name: value for name, value in wanted.items() if value is not None})
    click.echo(f"{scope}\tset")


@limit.command("rm")
@click.argument("scope")
def rm(scope: str) -> None:
    """Take the limit of a scope away."""
    from agentcom.cli import api

    api.connect().drop_limit(scope)
    click.echo(f"{scope}\tremoved")


def _parse_rate(text: str) -> dict[str, int]:
    found = _RATE.fullmatch(text)
    if found is None:
        message, hint = f"{text!r} is no rate", "--rate 10/1h, or 3/m"
        raise CommandFailed(message, hint=hint, exit_code=Exit.USAGE, code="usage")
    return {"rate": int(found[1]), "per_ms": int(found[2] or 1) * _UNIT_MS[found[3]]}


def _or_dash(value: object) -> object:
    return "-" if value is None else value
