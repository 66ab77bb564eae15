"""`agentcom service`: started with your login, or with the server, and again when it fails."""

from pathlib import Path
from typing import Final

import click

from agentcom.cli import output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = ("kind", "installed", "active", "path", "program")
_TABLE: Final = (
    Column("SERVICE", lambda row: row["kind"]),
    Column("INSTALLED", lambda row: row["installed"]),
    Column("ACTIVE", lambda row: row["active"]),
    Column("FILE", lambda row: row["path"]),
    Column("PROGRAM", lambda row: row["program"]),
)
_HUB: Final = click.option(
    "--hub", "is_hub", is_flag=True, help="The hub of a server, as a service of the system."
)


@click.group(cls=Group)
def service() -> None:
    """Run this computer's hub and agents as a service of yours, or a server's hub as its own."""


@service.command()
@click.option("--no-start", is_flag=True, help="Only write and check the file.")
@click.option("--print", "only_print", is_flag=True, help="Only show what would be written.")
@_HUB
@click.option("--home", type=click.Path(path_type=Path), help="With --hub: the hub's folder.")
@click.option("--user", help="With --hub: an account that is there; by default one of its own.")
def install(
    no_start: bool, only_print: bool, is_hub: bool, home: Path | None, user: str | None
) -> None:
    """Have systemd or launchd run `agentcom up`, from your login on and after each failure.

    With --hub: have systemd run the hub alone from the start of the computer on, watched, and
    closed in. That is for root.
    """
    from agentcom.cli import background, hub_unit, services

    if (home or user) and not is_hub:
        raise CommandFailed(
            "--home and --user are for the hub of a server",
            hint="agentcom service install --hub",
            exit_code=Exit.USAGE,
            code="usage",
        )
    place = (home or hub_unit.HOME).absolute()
    if only_print:
        shown = hub_unit.text(home=place, user=user or "") if is_hub else services.text()
        click.echo(shown, nl=False)
        return
    if is_hub:
        odd = hub_unit.install(home=place, user=user or "", start=not no_start)
        _told(odd, hub_unit.PLACE, started=not no_start)
        output.talk(
            f"note: to let yourself in: sudo AGENTCOM_HOME={place}"
            " agentcom user invite NAME --role admin"
        )
        return
    if not no_start:
        for name in background.recorded():  # the service takes over what runs already
            background.stop(name)
    _told(services.install(start=not no_start), services.path(), started=not no_start)
    if services.kind() == "systemd":
        output.talk("note: it ends when you log out, unless: loginctl enable-linger")


@service.command(cls=output.JsonCommand, fields=FIELDS)
@_HUB
def show(is_hub: bool, as_json: tuple[str, ...] | None) -> None:
    """Show whether the service is there, and runs."""
    from agentcom.cli import hub_unit, services

    output.details(hub_unit.row() if is_hub else services.row(), _TABLE, as_json=as_json)


@service.command()
@_HUB
def remove(is_hub: bool) -> None:
    """Stop the service and remove its file; running agents go on, and nothing stored is lost."""
    from agentcom.cli import hub_unit, services

    if hub_unit.remove() if is_hub else services.remove():
        click.echo("service\tremoved")
        return
    output.talk("there is no service here")


def _told(odd: list[str], place: Path, *, started: bool) -> None:
    for line in odd:
        output.talk(f"note: {line}")
    click.echo(f"{place}\t{'started' if started else 'installed'}")
