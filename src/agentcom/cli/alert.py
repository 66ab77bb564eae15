"""`agentcom alert`: what is wrong, since when, what to do; and the rules behind that."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import click

from agentcom.cli import output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = (
    *("id", "rule", "subject", "state", "severity", "said", "now", "value", "threshold", "unit"),
    *("since", "fired_at", "resolved_at", "acked_by", "acked_at", "silenced", "told", "todo"),
    *("link", "project"),
)
RULE_FIELDS: Final = (
    *("name", "threshold", "unit", "for_ms", "cooldown_ms", "severity", "to", "enabled"),
    *("changed", "below", "means", "todo", "link"),
)
_PERCENT: Final = "percent"
_MS: Final = "ms"


def _amount(value: float | None, unit: str) -> str:
    """Return a value in a rule's unit."""
    if value is None:
        return ""
    if unit == _MS:
        return output.span(int(value))
    return f"{value:.0f} %" if unit == _PERCENT else f"{value:g}"


def _state(row: Mapping[str, Any]) -> str:
    marks = [f"seen by {row['acked_by']}"] if row["acked_by"] else []
    marks += ["silenced"] if row["silenced"] else []
    return f"{row['state']} ({', '.join(marks)})" if marks else str(row["state"])


def _threshold(row: Mapping[str, Any]) -> str:
    return ("<= " if row["below"] else ">= ") + _amount(row["threshold"], row["unit"])


_TABLE: Final = (
    Column("ALERT", lambda row: row["id"]),
    Column("SEVERITY", lambda row: row["severity"]),
    Column("STATE", _state),
    Column("SINCE", lambda row: output.age(row["since"])),
    Column("WHAT", lambda row: row["now"] or row["said"]),
)
_DETAILS: Final = (
    Column("ALERT", lambda row: row["id"]),
    Column("STATE", _state),
    Column("SEVERITY", lambda row: row["severity"]),
    Column("WHAT", lambda row: row["said"]),
    Column("NOW", lambda row: row["now"] or None),
    Column("VALUE", lambda row: _amount(row["value"], row["unit"]) or None),
    Column("THRESHOLD", lambda row: _amount(row["threshold"], row["unit"])),
    Column("SINCE", lambda row: output.age(row["since"])),
    Column("FIRED", lambda row: output.age(row["fired_at"]) or None),
    Column("OVER", lambda row: output.age(row["resolved_at"]) or None),
    Column("TOLD", lambda row: "yes" if row["told"] else "nobody so far"),
    Column("DO", lambda row: row["todo"]),
    Column("MORE", lambda row: row["link"]),
)
_RULES: Final = (
    Column("RULE", lambda row: row["name"]),
    Column("ON", lambda row: "yes" if row["enabled"] else "no"),
    Column("THRESHOLD", _threshold),
    Column("FOR", lambda row: output.span(row["for_ms"]) if row["for_ms"] else ""),
    Column("COOL-DOWN", lambda row: output.span(row["cooldown_ms"])),
    Column("SEVERITY", lambda row: row["severity"]),
    Column("TO", lambda row: ", ".join(row["to"])),
    Column("CHANGED", lambda row: "yes" if row["changed"] else ""),
    Column("MEANS", lambda row: row["means"]),
)
_SILENCES: Final = (
    Column("SILENCE", lambda row: output.short(row["id"])),
    Column("ALERT", lambda row: "/".join(filter(None, (row["rule"], row["subject"])))),
    Column("ENDS", lambda row: output.age(row["until"])),
    Column("BY", lambda row: row["by"]),
    Column("REASON", lambda row: row["reason"]),
)


def firing() -> list[str]:
    """Return the names of the alerts that fire; none for a token that may not see them."""
    from agentcom.cli import asking
    from agentcom.model.errors import NotAllowed, NotFound
    from agentcom.protocol import alerting

    try:
        found = asking.ask("GET", "/alerts", alerting.AlertList)
    except (NotAllowed, NotFound):  # a confined token, or a hub of the version before
        return []
    return [one.id for one in found.alerts]


@click.group(cls=Group)
def alert() -> None:
    """See what is wrong, since when, and what to do about it.

    An alert is named as `alert ls` shows it: RULE, or RULE/SUBJECT.
    """


@alert.command("ls", cls=output.JsonCommand, fields=FIELDS)
@click.option("--all", "everything", is_flag=True, help="Also what is pending, or over.")
def ls(everything: bool, as_json: tuple[str, ...] | None) -> None:
    """List the alerts that fire, the worst first."""
    from agentcom.cli import asking
    from agentcom.protocol import alerting

    params = {"all": "true"} if everything else None
    found = asking.ask("GET", "/alerts", alerting.AlertList, params=params)
    output.listing([_row(one) for one in found.alerts], _TABLE, as_json=as_json)
    if found.silences and as_json is None:
        output.talk("silences:")
        output.listing([output.row_of(one) for one in found.silences], _SILENCES, as_json=None)


@alert.command(cls=output.JsonCommand, fields=FIELDS)
@click.argument("name", metavar="ALERT")
def show(name: str, as_json: tuple[str, ...] | None) -> None:
    """Show one alert, and what to do about it."""
    output.details(_find(name), _DETAILS, as_json=as_json)


@alert.command()
@click.argument("name", metavar="ALERT")
def ack(name: str) -> None:
    """Say that you look after an alert: nobody is told again while it fires."""
    from agentcom.cli import asking
    from agentcom.protocol import alerting

    found = asking.ask("POST", "/alerts/ack", alerting.AlertShown, body={"alert": name})
    click.echo(f"{found.id}\tseen by {found.alert.acked_by}")


@alert.command()
@click.argument("name", metavar="ALERT")
@click.option("--for", "time", default="2h", show_default=True, metavar="TIME")
@click.option("--reason", required=True, help="Whoever comes next wants to know.")
def silence(name: str, time: str, reason: str) -> None:
    """Tell nobody of an alert for a while; RULE means all its subjects.

    \b
    Examples:
      agentcom alert silence disk_low --for 2h --reason "the new disk comes today"
      agentcom alert silence machine_flapping/laptop --for 1d --reason "on a train"
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import asking, specs
    from agentcom.model.alert import Silence

    rule, _, subject = name.partition("/")
    body = {"rule": rule, "subject": subject, "ms": specs.duration(time, "--for")}
    made = asking.ask("POST", "/alerts/silences", Silence, body={**body, "reason": reason})
    click.echo(f"{output.short(made.id)}\t{name}\tuntil {output.age(made.until)}")


@alert.command()
@click.argument("silence_id", metavar="SILENCE")
def unsilence(silence_id: str) -> None:
    """End a silence, which is named by the end of its id."""
    from agentcom.cli import asking
    from agentcom.model.replies import Done

    asking.ask("DELETE", f"/alerts/silences/{quote(silence_id, safe='')}", Done)
    click.echo(f"{silence_id}\tended")


@alert.group(cls=Group)
def rule() -> None:
    """Show and change what is watched."""


@rule.command("ls", cls=output.JsonCommand, fields=RULE_FIELDS)
def rule_ls(as_json: tuple[str, ...] | None) -> None:
    """List the rules as they are."""
    from agentcom.cli import asking
    from agentcom.protocol import alerting

    found = asking.ask("GET", "/alert-rules", alerting.RuleList)
    output.listing([_rule_row(one) for one in found.rules], _RULES, as_json=as_json)


@rule.command("set")
@click.argument("name", metavar="RULE")
@click.option("--threshold", metavar="VALUE", help="A number, a share (80) or a time (15m).")
@click.option("--for", "lasting", metavar="TIME", help="How long it must last. 0s: at once.")
@click.option("--cooldown", metavar="TIME", help="How long nobody is told again.")
@click.option("--severity", type=click.Choice(["info", "warning", "critical"]))
@click.option("--to", multiple=True, help="A destination; repeatable. `--to any` takes all back.")
@click.option("--on/--off", "enabled", default=None, help="Watch it, or not.")
def rule_set(name: str, **options: Any) -> None:
    """Change a rule; what you do not name stays.

    \b
    Examples:
      agentcom alert rule set task_waiting --threshold 30m --severity critical
      agentcom alert rule set disk_low --threshold 5 --to oncall
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import asking, specs
    from agentcom.protocol import alerting

    body: dict[str, Any] = {"name": name}
    if options["threshold"] is not None:
        body["threshold"] = _number(options["threshold"])
    if options["lasting"] is not None:
        body["for_ms"] = specs.duration(options["lasting"], "--for")
    if options["cooldown"] is not None:
        body["cooldown_ms"] = specs.duration(options["cooldown"], "--cooldown")
    if options["to"]:
        body["to"] = [] if options["to"] == ("any",) else list(options["to"])
    body |= {key: options[key] for key in ("severity", "enabled") if options[key] is not None}
    _tell(asking.ask("POST", "/alert-rules", alerting.RuleShown, body=body))


@rule.command("rm")
@click.argument("name", metavar="RULE")
def rule_rm(name: str) -> None:
    """Give a rule its defaults again; to stop it: rule set RULE --off."""
    from agentcom.cli import asking
    from agentcom.protocol import alerting

    _tell(asking.ask("DELETE", f"/alert-rules/{quote(name, safe='')}", alerting.RuleShown))


@rule.command("test")
@click.argument("name", metavar="RULE")
def rule_test(name: str) -> None:
    """Send a test to everyone who would be told."""
    from agentcom.cli import asking
    from agentcom.model.replies import Done

    path = f"/alert-rules/{quote(name, safe='')}/test"
    click.echo(asking.ask("POST", path, Done).detail)


def _find(name: str) -> dict[str, Any]:
    from agentcom.cli import asking
    from agentcom.protocol import alerting

    found = asking.ask("GET", "/alerts", alerting.AlertList, params={"all": "true"})
    for one in found.alerts:
        if one.id == name:
            return _row(one)
    raise CommandFailed(
        f"there is no alert {name}", exit_code=Exit.MISSING, hint="agentcom alert ls --all"
    )


def _row(shown: Any) -> dict[str, Any]:
    return {**output.row_of(shown.alert), **output.row_of(shown)}


def _rule_row(shown: Any) -> dict[str, Any]:
    return {**output.row_of(shown.rule), **output.row_of(shown)}


def _tell(shown: Any) -> None:
    row = _rule_row(shown)
    state = "on" if row["enabled"] else "off"
    click.echo(f"{row['name']}\t{state}\t{_threshold(row)}\t{row['severity']}")


def _number(text: str) -> float:
    """Return a threshold: a plain number, or a time in milliseconds."""
    from agentcom.cli import specs

    try:
        return float(text.removesuffix("%"))
    except ValueError:
        return float(specs.duration(text, "--threshold"))
