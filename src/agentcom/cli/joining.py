"""What `agentcom join` does: the hub is checked before the code is sent, then tokens are stored."""

import contextlib
from pathlib import Path
from typing import Any, Final

import click

from agentcom.cli import api, background, context, enrol, output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.model.errors import NotAuthenticated
from agentcom.sidecar import tunnels
from agentcom.sidecar.config import Home

NOT_REACHED: Final = "hub not reached, trying"
NO_TOKEN: Final = "none"  # noqa: S105 - who enrols has none yet


def join(
    url: str,
    code: str,
    *,
    name: str | None,
    agents: tuple[str, ...],
    home: Path,
    via: str,
    start: bool,
    replace: bool,
) -> None:
    """Redeem a code, and become what it makes: a machine of the fleet, or one of its people.

    Raises:
        CommandFailed: there is a machine here already, an agent is not understood, or the code was
            used up or has expired.
    """
    if Home(home).exists():
        known = Home(home).load().machine
        raise CommandFailed(
            f"this computer is a machine of {known.hub} already",
            hint=f"agentcom up, or another --home, or remove {home}",
            exit_code=Exit.STALE,
            code="conflict",
        )
    secret, fingerprint = _parts(url, code)
    checks = [] if agents else enrol.preflight()
    chosen = name or enrol.machine_name()
    wanted = tuple(map(enrol.parse_agent, agents)) or enrol.agents_here(checks, chosen)
    before = context.find(url)  # a file that cannot be read is told before the code is used up
    with tunnels.opened(via, url) if via else contextlib.nullcontext(url) as reached:
        admitted = _redeem(reached, fingerprint, secret, chosen)
    if admitted.get("machine") is None:
        _person(url, fingerprint, admitted, before=None if replace else before)
        return
    enrol.store_machine(home, admitted, url=url, fingerprint=fingerprint, agents=wanted, via=via)
    click.echo(f"{'machine':<8}  {admitted['name']} at {url}")
    for line in enrol.lines(checks):
        click.echo(line)
    if not wanted:
        output.talk("note: no agent CLI is ready here; fix one of the above, then: agentcom up")
    if start:
        name = background.sidecar_name(home)
        _, ready = background.start(name, ["sidecar", "run", "--home", str(home)])
        click.echo(f"{'sidecar':<8}  {'connected' if ready['connected'] else NOT_REACHED}")
        tell_refused(ready)


def tell_refused(ready: background.Ready) -> None:
    """Say which agents the hub did not take."""
    for refusal in ready.get("refused", ()):
        output.talk(f"note: not taken: {refusal}: agentcom up --agent NAME=RUNTIME,")
        output.talk("      or agentcom machine rm, at the hub, if that machine is gone")


def _parts(url: str, code: str) -> tuple[str, str | None]:
    secret, _, pin = code.partition("@")
    fingerprint = pin.removeprefix("sha256:") or None
    if fingerprint is not None and not url.startswith("https://"):
        raise CommandFailed(
            f"the code names a certificate, which {url} does not show",
            hint=f"agentcom join 'https://{url.partition('://')[2]}#...'",
            exit_code=Exit.USAGE,
            code="usage",
        )
    return secret, fingerprint


def _redeem(url: str, fingerprint: str | None, secret: str, name: str) -> dict[str, Any]:
    # The certificate is compared at the end of the handshake, before a byte of ours is sent.
    hub = api.Hub(context.Context(url=url, token=NO_TOKEN, fingerprint=fingerprint))
    try:
        return hub.enrol(secret, name)
    except NotAuthenticated as error:
        raise CommandFailed(
            f"the hub does not accept this code: {error.message}",
            hint="agentcom machine invite, at the hub, prints a new one",
            exit_code=Exit.NOT_ALLOWED,
            code=error.code,
        ) from error
    finally:
        hub.close()


def _person(
    url: str, fingerprint: str | None, admitted: dict[str, Any], *, before: context.Context | None
) -> None:
    token = admitted["token"]
    click.echo(f"you are {admitted['user']} ({admitted['role']}) at {url}")
    if before is None:
        context.save(
            context.Context(url=url, token=token, fingerprint=fingerprint, user=admitted["user"])
        )
        return
    output.talk("the token, which nobody can see again:")
    click.echo(token)
    raise CommandFailed(
        f"{before.user or 'someone else'} uses {url} here already, and still does; "
        "the token above was not stored",
        hint=f"agentcom context add {url} --replace, which asks for the token",
        exit_code=Exit.STALE,
        code="conflict",
    )
