"""`agentcom up`, `down`, `status`, and the processes behind them: `hub run`, `sidecar run`."""

import json
import signal
import threading
from pathlib import Path
from typing import Any, Final

import click

from agentcom.cli import context, output
from agentcom.cli.errors import CommandFailed
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

STATUS_FIELDS: Final = (
    *("url", "version", "state", "store", "uptime_ms", "issuing", "tasks", "ended", "agents"),
    *(
        "machines",
        "machines_connected",
        "backlog",
        "pauses",
        "alerts",
        "user",
        "role",
        "hub_pid",
        "sidecar_pid",
    ),
)


def _here(row: output.Row) -> str:
    parts = [
        f"{name} (pid {row[f'{name}_pid']})"
        for name in ("hub", "sidecar")
        if row[f"{name}_pid"] is not None
    ]
    return ", ".join(parts)


_LOOK_S: Final = 30.0
"""The end of a process that is no child of ours is noticed within this."""
_READY_FD: Final = click.option("--ready-fd", type=int, hidden=True)
RELOAD_FIELDS: Final = ("applied", "restart")
_RELOADED: Final = (
    Column("APPLIED", lambda row: row["applied"]),
    Column("NEEDS A RESTART", lambda row: row["restart"]),
)
_STATUS: Final = (
    Column("HUB", lambda row: f"{row['url']} ({row['state']}, {row['version']})"),
    Column("UP", lambda row: output.span(row["uptime_ms"])),
    Column("YOU", lambda row: f"{row['user']} ({row['role']})"),
    Column("STORE", lambda row: row["store"]),
    Column("MACHINES", lambda row: f"{row['machines_connected']} of {row['machines']} connected"),
    Column("AGENTS", lambda row: row["agents"]),
    Column("TASKS", lambda row: row["tasks"]),
    Column("ENDED", lambda row: f"{output.plain(row['ended'])} since the hub's start"),
    Column("ISSUING", lambda row: None if row["issuing"] else "no: agentcom task why ID says why"),
    Column("PAUSES", lambda row: f"{row['pauses']}: agentcom pause" if row["pauses"] else None),
    Column("ALERTS", lambda row: row["alerts"] or None),
    Column("HERE", _here),
)


_LEVELS: Final = ("debug", "info", "warning", "error")
LEVEL_FIELDS: Final = ("usual", "overrides", "machine")
_LEVEL: Final = (
    Column("USUAL", lambda row: row["usual"]),
    Column("NOW", lambda row: "; ".join(row["logs"]) or "as usual"),
    Column("MACHINE", lambda row: row["machine"]),
)


@click.command()
@click.option("--listen", metavar="ADDR", help="Be reachable from other computers, with TLS.")
@click.option("--port", type=click.IntRange(0, 65_535), help="By default 7420.")
@click.option("--foreground", is_flag=True, help="Stay, and stop everything with Ctrl-C.")
@click.option("--no-agents", is_flag=True, help="Only the hub.")
@click.option("--agent", "agents", multiple=True, metavar="NAME=RUNTIME[:SETTINGS]")
def up(agents: tuple[str, ...], **options: Any) -> None:
    """Start a hub and this computer's agents, as processes of yours.

    \b
    Examples:
      agentcom up
      agentcom up --listen 0.0.0.0
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import background, services
    from agentcom.cli import up as starting

    if services.installed() and not options["foreground"] and not services.active():
        services.begin()  # not beside it: two starters would stop each other's processes
        background.wait_for(background.all_up, timeout_s=background.READY_S)
    ended, stopped = threading.Event(), threading.Event()
    if options["foreground"]:  # before the start: whoever stops us then means all of it
        signal.signal(signal.SIGCHLD, lambda *_: ended.set())
        _on_stop(stopped, ended)
    starting.start(
        listen=options["listen"],
        port=options["port"],
        agents=agents,
        with_machine=not options["no_agents"],
    )
    if options["foreground"]:
        _stay(ended, stopped)


def _on_stop(*events: threading.Event) -> None:
    def stop(*_: object) -> None:
        for event in events:
            event.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _stay(ended: threading.Event, stopped: threading.Event) -> None:
    """Wait for a signal, and stop everything; or for the end of what was started, and fail.

    Raises:
        CommandFailed: the hub or the sidecar ended by itself; whoever started us does so again.
    """
    from agentcom.cli import background

    watched = [name for name in background.recorded() if background.running(name)]
    while not stopped.is_set():
        ended.wait(_LOOK_S)
        ended.clear()
        gone = [name for name in watched if background.running(name) is None]
        if gone and not stopped.is_set():
            raise CommandFailed(f"the {gone[0]} has ended", hint="agentcom doctor")
    _down()


@click.command()
def down() -> None:
    """Stop this computer's agents and the hub that `up` started.

    Running agents go on; the next `up` takes them over. What is stored stays.
    """
    from agentcom.cli import services

    if services.active():
        services.end()
        click.echo("service\tstopped")
    elif not _down():
        output.talk("nothing runs here")


@click.command(cls=output.JsonCommand, fields=STATUS_FIELDS)
def status(as_json: tuple[str, ...] | None) -> None:
    """Show the hub, who you are there, and how the fleet stands."""
    from agentcom.cli import alert, api, background

    hub_here, sidecar_here = background.running("hub"), background.running("sidecar")
    hub_api = api.connect()
    row = {**hub_api.status(), **hub_api.whoami(), "url": hub_api.url}
    row["alerts"] = alert.firing()
    row["hub_pid"] = hub_here[0].pid if hub_here else None
    row["sidecar_pid"] = sidecar_here[0].pid if sidecar_here else None
    output.details(row, _STATUS, as_json=as_json)


@click.group(cls=Group)
def hub() -> None:
    """Run a hub in the foreground, or help one that is stopped."""


@hub.command("run")
@click.option("--home", type=click.Path(path_type=Path), help="By default AGENTCOM_HOME.")
@click.option("--host", help="The address to listen on; by default 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65_535), help="0 takes a free one.")
@click.option("--public-url", help="The address that join codes name.")
@click.option("--hosts", multiple=True, help="A name by which clients reach it.")
@click.option("--lease-ttl-ms", type=int, help="How long a silent machine keeps its tasks.")
@click.option("--store", help="sqlite, or memory for experiments.")
@click.option("--admin", help="Who becomes the first admin.")
@click.option(
    "--accept-rollback",
    is_flag=True,
    default=None,
    help="Start on a store that was put back from a copy; for one start.",
)
@click.option("--insecure", is_flag=True, default=None, help="No TLS off loopback. Do not.")
@click.option("--log-level", type=click.Choice(_LEVELS))
@_READY_FD
def hub_run(ready_fd: int | None, **flags: Any) -> int:
    """Run a hub until SIGTERM or Ctrl-C.

    Every setting may also be in hub.toml, or in AGENTCOM_HUB_<SETTING>.
    """
    from agentcom.cli import processes

    flags["hosts"] = list(flags["hosts"]) or None
    return processes.run_hub(flags, ready_fd)


@hub.command("reload", cls=output.JsonCommand, fields=RELOAD_FIELDS)
def hub_reload(as_json: tuple[str, ...] | None) -> None:
    """Have the hub take up settings that have changed, as SIGHUP does; admins may.

    What it cannot use changes nothing, and is said.
    """
    from agentcom.cli import running

    row = running.reload()
    if as_json is None and not any(row.values()):
        output.talk("nothing has changed")
    output.details(row, _RELOADED, as_json=as_json)


@hub.command("health")
@click.option("--home", type=click.Path(path_type=Path), help="By default AGENTCOM_HOME.")
def hub_health(home: Path | None) -> None:
    """Say whether the hub of this computer takes requests; exit with 6 if not. Needs no token."""
    from agentcom.cli import running

    click.echo(f"ready\t{running.health(home)}")


@hub.command("log-level", cls=output.JsonCommand, fields=LEVEL_FIELDS)
@click.argument("level", required=False, type=click.Choice([*_LEVELS, "usual"]))
@click.option("--for", "lasts", metavar="TIME", help="By default 10m, at most 1d.")
@click.option("--logger", default="", help="A module, such as agentcom.transport.")
@click.option("--machine", default="", help="The sidecar of this machine, not the hub.")
def log_level(
    level: str | None, lasts: str | None, logger: str, machine: str, as_json: tuple[str, ...] | None
) -> None:
    """Let a running hub log more or less, for a while; then it logs as usual again.

    \b
    Examples:
      agentcom hub log-level
      agentcom hub log-level debug --for 5m --logger agentcom.transport
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api, specs

    asked: dict[str, Any] = {"level": level, "logger": logger, "machine": machine}
    if lasts is not None:
        asked["for_ms"] = specs.duration(lasts, "--for")
    hub = api.connect()
    said = hub.send("PUT", "/log-level", asked) if level else hub.send("GET", "/log-level")
    row: dict[str, Any] = json.loads(said)
    row["logs"] = [
        f"{one['logger'] or 'everything'}: {one['level']}, for {output.span(one['left_ms'])}"
        for one in row["overrides"]
    ]
    output.details(row, _LEVEL, as_json=as_json)


@hub.command("admin-token")
@click.option("--home", type=click.Path(path_type=Path), help="By default that of `up`.")
@click.option("--user", help="An admin; by default the first one.")
def admin_token(home: Path | None, user: str | None) -> None:
    """Print a new token for an admin whose token is lost. The hub must be stopped.

    Whoever may write the hub's folder may do this.
    """
    from agentcom.cli import recovery

    folder = home or (context.hub_home() if context.hub_home().exists() else context.home())
    owner, token = recovery.admin_token(folder.absolute(), user)
    output.talk(f"a new token of {owner}:")
    click.echo(token)


@click.group(cls=Group)
def sidecar() -> None:
    """Run a machine in the foreground."""


@sidecar.command("run")
@click.option("--home", type=click.Path(path_type=Path), help="By default AGENTCOM_HOME/machine.")
@click.option("--join", "address", metavar="URL#CODE", help="Join first, unless that is done.")
@click.option("--agent", "agents", multiple=True, metavar="NAME=RUNTIME[:SETTINGS]")
@_READY_FD
def sidecar_run(
    home: Path | None, address: str | None, agents: tuple[str, ...], ready_fd: int | None
) -> int:
    """Run this computer's agents until SIGTERM or Ctrl-C.

    --join and --agent are for containers: a machine that has joined keeps what it has.
    """
    from agentcom.cli import processes

    place = home or context.machine_home()
    if address and not (place / "machine.json").exists():
        _join(address, agents, place)
    return processes.run_sidecar(place, ready_fd)


def _join(address: str, agents: tuple[str, ...], home: Path) -> None:
    from agentcom.cli import joining

    url, _, code = address.partition("#")
    joining.join(url, code, name=None, agents=agents, home=home, via="", start=False, replace=False)


def _down() -> bool:
    from agentcom.cli import background

    stopped = False
    for name in background.recorded():
        if background.stop(name):
            click.echo(f"{name}\tstopped")
            stopped = True
    return stopped
