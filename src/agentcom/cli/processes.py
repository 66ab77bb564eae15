"""The processes themselves: a hub, a machine's sidecar; each says on a pipe when it is ready."""

import asyncio
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

import click
import structlog

from agentcom import app
from agentcom.cli import background, context
from agentcom.hub import config as hub_config
from agentcom.telemetry import logs

LINK_OPENED: Final = "link.opened"
"""The sidecar's own record that the hub has let it in."""


def run_hub(flags: Mapping[str, Any], ready_fd: int | None) -> int:
    """Run a hub until a signal ends it."""
    config = hub_config.load(flags=flags)

    def ready(started: app.HubInfo) -> None:
        answer = {
            "url": started.url,
            "token": started.admin_token,
            "fingerprint": started.fingerprint,
            "listen": config.host,
        }
        if ready_fd is None:
            _greet(started)
        background.tell_ready(ready_fd, answer)

    return asyncio.run(app.run_hub(config, ready=ready))


def run_sidecar(home: Path, ready_fd: int | None) -> int:
    """Run a machine until a signal ends it."""
    from agentcom.sidecar.config import Home
    from agentcom.sidecar.shell import Sidecar

    config = Home(home).load()
    waiting = [ready_fd] if ready_fd is not None else []

    def announce(
        _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        if event.get("event") == LINK_OPENED and waiting:
            background.tell_ready(waiting.pop(), {"machine": config.machine.machine})
        return event

    pipe = logs.configure(as_json=not sys.stderr.isatty(), secrets=[config.token])
    try:
        structlog.configure(processors=[announce, *structlog.get_config()["processors"]])
        return asyncio.run(Sidecar(config).run())
    finally:
        pipe.close()


def _greet(started: app.HubInfo) -> None:
    """Tell a person who started the hub by hand; the first admin's token is kept for them."""
    click.echo(f"hub       {started.url}", err=True)
    if started.admin_token is not None and context.load_stored() is None:
        context.save(
            context.Context(
                url=started.url, token=started.admin_token, fingerprint=started.fingerprint
            )
        )
        click.echo(f"admin     {started.admin}, whose token is kept here", err=True)
