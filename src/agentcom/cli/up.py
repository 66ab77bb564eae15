"""What `agentcom up` does: a hub, a token for you, a machine, and a word about each."""

import getpass
import json
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from agentcom.cli import (
    agents_here,
    api,
    background,
    context,
    enrol,
    output,
    repository,
    services,
    upgrade_plan,
)
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.joining import NOT_REACHED, tell_refused
from agentcom.model.errors import NotAuthenticated
from agentcom.sidecar.config import AgentConfig, Home
from agentcom.sidecar.runtime import base

Agents = tuple[AgentConfig, ...]
_PLACE: Final = "place.json"
"""In the hub's folder: what `up` was last told of address and port."""
_WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - names that nobody can dial


def start(
    *, listen: str | None, port: int | None, agents: tuple[str, ...], with_machine: bool
) -> None:
    """Start what does not run yet, and print how things are.

    A computer that joined another hub's fleet gets no hub of its own: only its agents start.
    """
    if upgrade_plan.interrupted() is not None:
        output.talk("note: an upgrade was interrupted: agentcom upgrade --resume")
    joined = Home(context.machine_home()).exists() and not context.hub_home().exists()
    if joined and listen is None and with_machine:
        for line in _joined(agents):
            click.echo(line)
        return
    hub = _hub(listen, port)
    try:
        lines = _machine(hub, agents) if with_machine else []
    except NotAuthenticated as error:
        raise _locked_out(error) from error
    for line in lines:
        click.echo(line)
    _repository()
    if listen is not None:
        invitation = hub.invite_machine(uses=1)
        output.talk("another computer joins with (once, within 15 minutes):")
        click.echo(f"agentcom join '{invitation['join']}'")


def _locked_out(error: NotAuthenticated) -> CommandFailed:
    return CommandFailed(
        f"your token for the hub of this computer does not work: {error.message}",
        hint="agentcom down, agentcom hub admin-token, agentcom up",
        exit_code=Exit.NOT_ALLOWED,
        code=error.code,
    )


def _hub(listen: str | None, port: int | None) -> api.Hub:
    found = background.running("hub")
    if found is not None:
        if listen is not None and listen != found[1].get("listen"):
            raise CommandFailed(
                f"the hub runs, and listens on {found[1].get('url')}",
                hint=f"agentcom down, then agentcom up --listen {listen}",
                exit_code=Exit.STALE,
                code="conflict",
            )
        output.talk(f"the hub runs: {found[1].get('url')} (pid {found[0].pid})")
        return api.connect(_known_as(found[1]))
    place = _place(listen, port)
    words = ["hub", "run", "--home", str(context.hub_home()), "--admin", _user()]
    words += _listening(place.get("listen"))
    words += ["--port", str(place["port"])] if "port" in place else []
    process, ready = background.start("hub", words)
    output.talk(f"the hub runs now: {ready['url']} (pid {process.pid})")
    if listen is not None or port is not None:
        kept = {name: value for name, value in place.items() if value}  # 0 is another one each time
        context.write_private(context.hub_home() / _PLACE, json.dumps(kept) + "\n")
    return api.connect(_remember(ready))


def _place(listen: str | None, port: int | None) -> dict[str, Any]:
    """Return where the hub listens: as asked for now, else as asked for last.

    Other computers look for it where it was. What hub.toml says needs no memory.
    """
    asked = {"listen": listen, "port": port}
    given = {name: value for name, value in asked.items() if value is not None}
    if (context.hub_home() / "hub.toml").exists():
        return given
    try:
        before: dict[str, Any] = json.loads((context.hub_home() / _PLACE).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return given
    if listen is None and before.get("listen"):
        output.talk(f"note: it listens on {before['listen']} as before; --listen 127.0.0.1 ends it")
    return before | given


def _remember(ready: dict[str, Any]) -> context.Context:
    """Make the hub that was started the current one, with the admin's token."""
    current = next(iter(context.known()), None)
    token = ready.get("token")
    if token:
        mine = context.Context(
            url=ready["url"],
            token=token,
            fingerprint=ready.get("fingerprint"),
            user=ready.get("admin"),
            home=str(context.hub_home()),
        )
    else:
        mine = _known_as(ready)
    context.save(mine)
    if current is not None and current.home != mine.home and current.url != mine.url:
        output.talk(f"note: commands talk to {mine.url} now; agentcom context use {current.url}")
    return mine


def _known_as(ready: dict[str, Any]) -> context.Context:
    """Return the hub of this computer as who we are there; never another hub's token.

    Raises:
        CommandFailed: the token of its admin is not here.
    """
    home = context.hub_home()
    known = context.of_hub(home)
    if known is None and (there := context.find(ready["url"])) is not None and not there.home:
        known = there
    if known is None:
        raise CommandFailed(
            f"the hub runs at {ready['url']}, and the token of its admin is not here",
            hint=f"agentcom down, then agentcom hub admin-token --home {home}",
            exit_code=Exit.NOT_ALLOWED,
            code="not_authenticated",
        )
    place = {"url": ready["url"], "fingerprint": ready.get("fingerprint"), "home": str(home)}
    return replace(known, **place)


def _machine(hub: api.Hub, wanted: tuple[str, ...]) -> list[str]:
    home = context.machine_home()
    checks = [] if wanted else enrol.preflight()
    name = enrol.machine_name()
    agents = tuple(map(enrol.parse_agent, wanted)) or enrol.agents_here(checks, name)
    if not Home(home).exists():
        background.stop("sidecar")  # one whose folder was removed under it can store nothing
        _enrol(hub, home, name, agents)
    elif Home(home).load().machine.machine in {row["id"] for row in hub.machines()}:
        place = {"hub": hub.url, "fingerprint": hub.fingerprint}
        agents = _refresh(home, place, agents, changed=bool(wanted))
    else:
        raise CommandFailed(
            f"this computer is a machine of another fleet: {Home(home).load().machine.hub}",
            hint=f"agentcom up --no-agents, or remove {home}",
            exit_code=Exit.STALE,
            code="conflict",
        )
    return _start(home, checks, agents)


def _joined(wanted: tuple[str, ...]) -> list[str]:
    home = context.machine_home()
    checks = [] if wanted else enrol.preflight()
    name = Home(home).load().machine.machine[-6:]
    agents = tuple(map(enrol.parse_agent, wanted)) or enrol.agents_here(checks, name)
    return _start(home, checks, _refresh(home, {}, agents, changed=bool(wanted)))


def _start(home: Path, checks: Sequence[base.Preflight], agents: Agents) -> list[str]:
    lines = enrol.lines(checks)
    if background.running("sidecar") is None:
        _, ready = background.start("sidecar", ["sidecar", "run", "--home", str(home)])
        lines += [] if ready["connected"] else [f"{'sidecar':<8}  {NOT_REACHED}"]
        tell_refused(ready)
    told = {check.runtime for check in checks}
    here = [agent for agent in agents if not agent.leaving]
    lines += [f"{agent.name:<8}  {agent.runtime}" for agent in here if agent.runtime not in told]
    if not here:
        output.talk("note: no agent CLI is ready: tasks wait until one is")
    return lines


def _enrol(hub: api.Hub, home: Path, name: str, agents: Agents) -> None:
    taken = {row["name"] for row in hub.machines()}
    chosen = f"{name}-{uuid.uuid4().hex[:4]}" if name in taken else name
    code = hub.invite_machine(uses=1)["code"]
    admitted = hub.enrol(code.partition("@")[0], chosen)
    enrol.store_machine(home, admitted, url=hub.url, fingerprint=hub.fingerprint, agents=agents)


def _refresh(home: Path, place: dict[str, Any], agents: Agents, *, changed: bool) -> Agents:
    """Bring address and agents up to date; agents that a person named are not replaced."""
    stored = Home(home).load().machine
    known = {agent.name for agent in stored.agents} | {agent.runtime for agent in stored.agents}
    more = tuple(agent for agent in agents if known.isdisjoint({agent.name, agent.runtime}))
    kept = agents if changed else (*stored.agents, *more)
    renewed = msgspec.structs.replace(stored, agents=kept, **place)
    if renewed != stored:
        Home(home).save(renewed)
        # The service's own process is not ours to start anew; others get our environment so.
        if not (services.active() and agents_here.reload(Home(home))):
            background.stop("sidecar")
    return tuple(kept)


def _listening(listen: str | None) -> list[str]:
    if listen is None:
        return []
    host, _, port = listen.partition(":") if listen.count(":") <= 1 else (listen, "", "")
    words = ["--host", host or "0.0.0.0"]  # noqa: S104 - the operator asked for it
    if host in _WILDCARDS:
        words += ["--hosts", enrol.address()]
    return words + (["--port", port] if port else [])


def _repository() -> None:
    found = repository.infer(Path.cwd())
    if found is None:
        return
    name = found.repo.rstrip("/").removesuffix(".git").replace(":", "/").rsplit("/", 1)[-1]
    if found.has_checks:
        checks = "verify: .agentcom.toml"
    else:
        hint = repository.checks_hint(Path.cwd())
        checks = f"verify: {hint} (detected)" if hint else "verify: nothing found"
    click.echo(f"{'repo':<8}  {name}@{found.base}, {checks}")


def _user() -> str:
    return getpass.getuser()
