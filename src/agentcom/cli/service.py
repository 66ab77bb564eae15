"""`agentcom service`: started with your login, and again when it fails."""

from typing import Final

import click

from agentcom.cli import output
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


@click.group(cls=Group)
def service() -> None:
    """Run this computer's hub and agents as a service of yours."""


@service.command()
@click.option("--no-start", is_flag=True, help="Only write and check the file.")
@click.option("--print", "only_print", is_flag=True, help="Only show what would be written.")
def install(no_start: bool, only_print: bool) -> None:
    """Have systemd or launchd run `agentcom up`, from your login on and after each failure."""
    from agentcom.cli import background, services

    if only_print:
        click.echo(services.text(), nl=False)
        return
    if not no_start:
        for name in background.recorded():  # the service takes over what runs already
            background.stop(name)
    for line in services.install(start=not no_start):
        output.talk(f"note: {line}")
    click.echo(f"{services.path()}\t{'installed' if no_start else 'started'}")
    if services.kind() == "systemd":
        output.talk("note: it ends when you log out, unless: loginctl enable-linger")


@service.command(cls=output.JsonCommand, fields=FIELDS)
def show(as_json: tuple[str, ...] | None) -> None:
    """Show whether the service is there, and runs."""
    from agentcom.cli import services

    output.details(services.row(), _TABLE, as_json=as_json)


@service.command()
def remove() -> None:
    """Stop the service and remove its file; running agents go on, and nothing stored is lost."""
    from agentcom.cli import services

    if services.remove():
        click.echo("service\tremoved")
        return
    output.talk("there is no service here")
