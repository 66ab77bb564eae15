"""`agentcom uninstall`: stop everything here and remove what it made."""

import click


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--lose-work", is_flag=True, help="Also if work here is nowhere else.")
def uninstall(dry_run: bool, yes: bool, lose_work: bool) -> None:
    """Stop the hub and the agents of this computer, and remove all that they keep here.

    Refused while work of agents is nowhere but here, or a report has not reached the hub.
    """
    from agentcom.cli import uninstalling

    uninstalling.run(dry_run=dry_run, yes=yes, lose_work=lose_work)
