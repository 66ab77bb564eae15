"""`agentcom config`: what this computer's hub and sidecar are set to, why, and what can be set."""

from pathlib import Path
from typing import Any, Final

import click

from agentcom.cli import context, output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = ("setting", "value", "origin", "line", "default", "hot", "restart")
_TABLE: Final = (
    Column("SETTING", lambda row: row["setting"]),
    Column("VALUE", lambda row: row["text"]),
    Column("FROM", lambda row: ":".join(map(str, filter(None, (row["origin"], row["line"]))))),
)
CHECK_FIELDS: Final = ("file", "line", "setting", "problem", "nearest")
EXPLAIN_FIELDS: Final = (
    *("setting", "meaning", "type", "bounds", "default", "hot", "since"),
    *("file", "environment"),
)
_EXPLAINED: Final = (
    Column("SETTING", lambda row: row["setting"]),
    Column("MEANING", lambda row: row["meaning"]),
    Column("TYPE", lambda row: row["type"]),
    Column("BOUNDS", lambda row: row["bounds"]),
    Column("DEFAULT", lambda row: row["default"]),
    Column("IN FORCE", lambda row: row["in_force"]),
    Column("SINCE", lambda row: row["since"]),
    Column("FILE", lambda row: row["file"]),
    Column("ENVIRONMENT", lambda row: row["environment"]),
)
_PROGRAM: Final = click.option(
    "--program", type=click.Choice(["hub", "sidecar"]), help="By default both that are here."
)
_HOME: Final = click.option(
    "--home", type=click.Path(path_type=Path), help="Its folder, if it is not the usual one."
)


@click.group("config", cls=Group)
def config_group() -> None:
    """Show, check and explain the settings of this computer's hub and sidecar."""


@config_group.command("show", cls=output.JsonCommand, fields=FIELDS)
@click.argument("setting", required=False)
@_PROGRAM
@_HOME
@click.option("--changed", is_flag=True, help="Only what differs from the defaults.")
def show(
    setting: str | None,
    program: str | None,
    home: Path | None,
    changed: bool,
    as_json: tuple[str, ...] | None,
) -> int:
    """Show what each setting is and where that comes from; secrets are blanked out.

    \b
    Examples:
      agentcom config show --changed
      agentcom config show port --json value,origin
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import explaining
    from agentcom.model.settings import DEFAULT

    rows: list[dict[str, Any]] = []
    wrong: list[Any] = []
    for one, place in _programs(program, home):
        values, problems = explaining.examine(one, place)
        wrong += problems
        for name, found in values.items():
            if changed and found.origin == DEFAULT:
                continue
            rows.append(_row(f"{one.name}.{name}", found))
    if setting is not None:
        rows = [row for row in rows if setting in (row["setting"], _inner(row["setting"]))]
        if not rows and not changed:
            raise _no_such(setting)
    output.listing(rows, _TABLE, as_json=as_json)
    for problem in wrong:
        output.talk(f"wrong: {problem}")
    return Exit.FAILED if wrong else Exit.DONE


@config_group.command("check", cls=output.JsonCommand, fields=CHECK_FIELDS)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@_PROGRAM
@_HOME
def check(
    file: Path | None, program: str | None, home: Path | None, as_json: tuple[str, ...] | None
) -> int:
    """Say everything that is wrong with a file, or with what is set here; exit with 1 if anything.

    A file called sidecar.toml is a sidecar's, any other a hub's, if --program does not say.
    """
    from agentcom.cli import explaining

    found: list[Any] = []
    if file is not None:
        named = program or ("sidecar" if file.name == explaining.SIDECAR.file else "hub")
        one = next(it for it in explaining.PROGRAMS if it.name == named)
        place = file.absolute()
        _, problems = explaining.examine(one, place.parent, environment={}, file=place)
        found += problems
    else:
        for one, folder in _programs(program, home):
            found += explaining.examine(one, folder)[1]
    rows = [
        {
            "file": it.origin,
            "line": it.line,
            "setting": it.name or None,
            "problem": it.text,
            "nearest": it.nearest or None,
        }
        for it in found
    ]
    if as_json is not None:
        output.print_json([{name: row[name] for name in as_json} for row in rows])
    for problem in found if as_json is None else ():
        click.echo(output.plain(str(problem)))
    if not found:
        output.talk("all settings are good")
    return Exit.FAILED if found else Exit.DONE


@config_group.command("explain", cls=output.JsonCommand, fields=EXPLAIN_FIELDS)
@click.argument("setting")
@_PROGRAM
def explain(setting: str, program: str | None, as_json: tuple[str, ...] | None) -> None:
    """Say what a setting is for, what it may be, and when a change is in force.

    \b
    Example:
      agentcom config explain lease_ttl_ms
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    rows = [
        row
        for row in explained()
        if setting in (row["setting"], _inner(row["setting"]))
        and program in (None, row["setting"].partition(".")[0])
    ]
    if not rows:
        raise _no_such(setting)
    for number, row in enumerate(rows):
        if number and as_json is None:
            click.echo()
        output.details(row, _EXPLAINED, as_json=as_json)


@config_group.command("schema")
@click.argument("program", type=click.Choice(["hub", "sidecar"]), default="hub")
def schema(program: str) -> None:
    """Print the JSON Schema of hub.toml, or of sidecar.toml, for your editor."""
    from agentcom.cli import explaining

    one = next(it for it in explaining.PROGRAMS if it.name == program)
    output.print_json(explaining.json_schema(one))


def explained() -> list[dict[str, Any]]:
    """Return everything that is known of each setting, as rows."""
    from agentcom.cli import explaining
    from agentcom.model import settings

    rows: list[dict[str, Any]] = []
    for one in explaining.PROGRAMS:
        for name, it in settings.describe(one.kind).items():
            at_home = one is explaining.HUB and name == explaining.HOME
            inner = explaining.type_words(it.kind)
            variable = settings.variable(one.prefix, name)
            rows.append(
                {
                    "setting": f"{one.name}.{name}",
                    "meaning": explaining.meaning(it),
                    "type": inner,
                    "bounds": explaining.bounds(it.kind),
                    "default": explaining.text(it, it.default),
                    "hot": it.hot,
                    "in_force": _in_force(one.name, hot=it.hot),
                    "since": it.since,
                    "file": "" if at_home else one.file,
                    "environment": "AGENTCOM_HOME" if at_home else variable,
                }
            )
    for row in rows:
        if row["type"] == "table" or row["type"].startswith("list of table"):
            row["environment"] = ""
    return rows


def _in_force(program: str, *, hot: bool) -> str:
    if program == "hub":
        return "after `agentcom hub reload`" if hot else "when the hub starts anew"
    return "after a SIGHUP" if hot else "after `agentcom machine restart`, which agents survive"


def _row(name: str, found: Any) -> dict[str, Any]:
    from agentcom.cli import explaining
    from agentcom.model.settings import DEFAULT

    return {
        "setting": name,
        "value": explaining.public(found.setting, found.value),
        "text": explaining.text(found.setting, found.value),
        "origin": found.origin,
        "line": found.line,
        "default": found.origin == DEFAULT,
        "hot": found.setting.hot,
        "restart": not found.setting.hot,
    }


def _inner(name: str) -> str:
    return name.partition(".")[2]


def _programs(program: str | None, home: Path | None) -> list[tuple[Any, Path]]:
    """Return the programs that are meant, with their folders; the hub if none is here."""
    from agentcom.cli import explaining

    hub = context.hub_home() if context.hub_home().exists() else context.home()
    places = {"hub": hub, "sidecar": context.machine_home()}
    if home is not None and program is None:
        program = "sidecar" if (home / "machine.json").exists() else "hub"
    if program is None:
        here = (places["sidecar"] / "machine.json").exists()
        wanted = ["hub", "sidecar"] if here else ["hub"]
    else:
        wanted = [program]
    return [
        (one, (home or places[one.name]).absolute())
        for one in explaining.PROGRAMS
        if one.name in wanted
    ]


def _no_such(setting: str) -> CommandFailed:
    from agentcom.model import settings

    known = [row["setting"] for row in explained()]
    close = settings.nearest(setting, [*known, *map(_inner, known)])
    return CommandFailed(
        f"there is no setting {setting}",
        hint=f"agentcom config explain {close}" if close else "agentcom config show",
        exit_code=Exit.MISSING,
        code="not_found",
    )
