"""The processes themselves: a hub, a machine's sidecar; each says on a pipe when it is ready."""

import asyncio
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

import click
import structlog

from agentcom.cli import background
from agentcom.hub import config as hub_config

LINK_OPENED: Final = "link.opened"
"""The sidecar's own record that the hub has let it in."""


def run_hub(flags: Mapping[str, Any], ready_fd: int | None) -> int:
    """Run a hub until a signal ends it."""
    from agentcom import app

    config = hub_config.load(flags=flags)

    def ready(started: Any) -> None:
        answer = {
            "url": started.url,
            "token": started.admin_token,
            "fingerprint": started.fingerprint,
            "listen": config.host,
        }
        if ready_fd is None:
            click.echo(f"hub       {started.url}", err=True)
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

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            announce,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
    return asyncio.run(Sidecar(config).run())
