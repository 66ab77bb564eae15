"""The processes themselves: a hub, a machine's sidecar; each says on a pipe when it is ready."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from agentcom import app
from agentcom.cli import background, context
from agentcom.hub import config as hub_config
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.config import Config, Home
from agentcom.sidecar.shell import Sidecar
from agentcom.telemetry import logs


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
    config = Home(home).load()
    pipe = logs.configure(as_json=not sys.stderr.isatty(), secrets=[config.token])
    try:
        return asyncio.run(_Announced(config, ready_fd).run())
    finally:
        pipe.close()


class _Announced(Sidecar):
    """Tells whoever started it once the hub has welcomed it, for the first time."""

    def __init__(self, config: Config, ready_fd: int | None) -> None:
        super().__init__(config)
        self._ready_fd = ready_fd
        self._welcome = {"machine": config.machine.machine}

    def _perform(self, order: values.Order) -> None:
        super()._perform(order)
        if isinstance(order, values.Settle):
            background.tell_ready(self._ready_fd, self._welcome)
            self._ready_fd = None


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
