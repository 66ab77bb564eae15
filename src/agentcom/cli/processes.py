"""The processes themselves: a hub, a machine's sidecar; each says on a pipe when it is ready."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from agentcom import app
from agentcom.cli import background, context, errors
from agentcom.hub import config as hub_config
from agentcom.sidecar import known_secrets, settings, tunnels
from agentcom.sidecar.config import Config, Home
from agentcom.sidecar.shell import Sidecar
from agentcom.telemetry import logs

CONNECT_S: Final = 8.0
"""A start reports after this, though the hub was not reached: it is tried on and on."""


def run_hub(flags: Mapping[str, Any], ready_fd: int | None) -> int:
    """Run a hub until a signal ends it."""
    config = hub_config.load(flags=flags)

    def ready(started: app.HubInfo) -> None:
        answer = {
            "url": started.url,
            "token": started.admin_token,
            "admin": started.admin,
            "fingerprint": started.fingerprint,
            "listen": config.host,
        }
        if ready_fd is None:
            _greet(started)
        background.tell_ready(ready_fd, answer)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        reread = partial(hub_config.load, flags=flags)
        return runner.run(app.run_hub(config, ready=ready, reread=reread))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the quicker event loop, where the extra `uvloop` is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def run_sidecar(home: Path, ready_fd: int | None) -> int:
    """Run a machine until a signal ends it."""
    config = settings.started(Home(home).load())
    pipe = logs.configure(as_json=not sys.stderr.isatty(), secrets=known_secrets.of(config))
    try:
        code, restarts = asyncio.run(_announced(config, ready_fd))
    finally:
        pipe.close()
    if restarts:
        # The same process, so that whoever watches it notices nothing, with the program of now.
        words = background.program("sidecar", "run", "--home", str(home))
        os.execv(words[0], words)  # noqa: S606 - this program itself
    return code


async def _announced(config: Config, ready_fd: int | None) -> tuple[int, bool]:
    """Run a machine; tell whoever started it when the hub has welcomed it, or that it is awaited.

    A machine that holds its lock looks after its agents, hub or no hub.
    """
    told = asyncio.Event()

    def tell(connected: bool, refused: Sequence[str] = ()) -> None:
        if not told.is_set():
            told.set()
            answer = {"machine": config.machine.machine, "connected": connected}
            background.tell_ready(ready_fd, {**answer, "refused": list(refused)})

    asyncio.get_running_loop().call_later(CONNECT_S, tell, False)
    async with tunnels.kept(config) as reached:
        machine = Sidecar(reached, on_welcome=lambda refused: tell(True, refused))
        code = await machine.run()
    if machine.refusal is not None:
        # The last word in the log is what `up` shows, if that started us.
        errors.say(machine.refusal.message, machine.refusal.code, "", errors.Exit(code))
    return code, machine.restarts


def _greet(started: app.HubInfo) -> None:
    """Tell a person who started the hub by hand; the first admin's token is kept for them."""
    click.echo(f"hub       {started.url}", err=True)
    home = str(started.home)
    before = context.of_hub(started.home)
    current = next(iter(context.known()), None)
    # An address has one hub at a time: who was known there before is not.
    first = current is None or current == before or current.url == started.url
    if started.admin_token is None:
        if before is not None:
            moved = replace(before, url=started.url, fingerprint=started.fingerprint)
            context.save(moved, current=first)
        return
    made = context.Context(
        url=started.url,
        token=started.admin_token,
        fingerprint=started.fingerprint,
        user=started.admin,
        home=home,
    )
    try:
        context.save(made, current=first)
    except OSError as error:
        click.echo(f"the token of {started.admin} cannot be kept here: {error}", err=True)
        click.echo(started.admin_token)
        return
    more = "" if first else f": agentcom context use {started.url}"
    click.echo(f"admin     {started.admin}, whose token is kept here{more}", err=True)
