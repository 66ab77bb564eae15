"""`agentcom upgrade`: another version in place; what runs goes on, and a bad one is taken back."""

import click


@click.command()
@click.option("--to", "version", metavar="VERSION", help="By default the newest.")
@click.option("--from", "source", metavar="WHEEL", type=click.Path(exists=True, dir_okay=False))
@click.option("--restart", is_flag=True, help="Install nothing; go on with what is installed now.")
@click.option("--resume", is_flag=True, help="Go on with an upgrade that was interrupted.")
def upgrade(version: str | None, source: str | None, restart: bool, resume: bool) -> None:
    """Install another version of AgentCom, and start the hub and the sidecar of it here.

    Running agents go on meanwhile. If the new version does not come up, the old one is put back,
    with the packages and the store that it had.

    \b
    Examples:
      agentcom upgrade
      agentcom upgrade --from agentcom-1.2.0-py3-none-any.whl
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import upgrading

    if restart:
        upgrading.restart()
        return
    before, now = upgrading.resume() if resume else upgrading.run(version=version, source=source)
    click.echo(f"agentcom\t{now}" + ("" if now != before else ", as before"))
