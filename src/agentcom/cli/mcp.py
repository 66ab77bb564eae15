"""`agentcom mcp`: the hub's tools, for a client that starts its MCP servers itself."""

import click


@click.command("mcp")
@click.option(
    "--profile",
    type=click.Choice(("minimal", "full")),
    default="minimal",
    show_default=True,
    help="Few tools in few words, or all of them.",
)
def mcp(profile: str) -> None:
    """Offer the hub's tools by MCP over standard input and output.

    You are whoever you are for the other commands: the agent inside an attempt, else yourself.

    \b
    Examples:
      claude mcp add agentcom -- agentcom mcp
      codex mcp add agentcom -- agentcom mcp
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    import asyncio
    import importlib.util

    from agentcom.cli import context
    from agentcom.cli.errors import CommandFailed
    from agentcom.client.dialling import Dial

    if importlib.util.find_spec("mcp") is None:
        raise CommandFailed(
            "this needs the MCP library", hint="pip install 'agentcom[mcp]'", code="not_installed"
        )
    from agentcom.client import mcp_stdio

    known = context.load()
    dial = Dial(url=known.url, token=known.token, fingerprint=known.fingerprint)
    asyncio.run(mcp_stdio.serve(dial, profile=profile))
