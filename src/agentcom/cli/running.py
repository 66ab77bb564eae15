"""What whoever runs a hub asks of it: is it well, and will it take up its changed settings."""

import asyncio
from pathlib import Path
from typing import Any, Final

import httpx

from agentcom.cli import background, context
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.output import row_of
from agentcom.client.dialling import Dial
from agentcom.client.http import HttpCalls, http_client
from agentcom.hub import config as hub_config
from agentcom.hub.address import certificate_of
from agentcom.protocol.settings import Reloaded

WELL_S: Final = 5.0
_NO_TOKEN: Final = "none"  # noqa: S105 - whether a hub is well is told to everybody
_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - names that nobody can dial


def reload() -> dict[str, Any]:
    """Have the hub of this context take up its changed settings; return what differs."""
    known = context.load()
    dial = Dial(url=known.url, token=known.token, fingerprint=known.fingerprint)
    return row_of(asyncio.run(_reload(dial)))


def health(home: Path | None) -> str:
    """Return the address of this computer's hub, which answers and takes requests.

    Raises:
        CommandFailed: it does not.
    """
    dial = _here(home)
    why = asyncio.run(_ask(dial))
    if why:
        raise CommandFailed(
            f"the hub at {dial.url} {why}",
            hint="agentcom status, then agentcom up",
            exit_code=Exit.UNREACHABLE,
            code="unavailable",
        )
    return dial.url


def _here(home: Path | None) -> Dial:
    """Return how a hub of this computer is reached: as it said at its start, or as it is set."""
    record = background.running("hub") if home is None else None
    if record is not None:
        url, pin = record[1]["url"], record[1].get("fingerprint")
        return Dial(url=url, token=_NO_TOKEN, fingerprint=pin)
    config = hub_config.load(flags={"home": home or context.home()})
    certificate = certificate_of(config)
    host = "127.0.0.1" if config.host in _WILDCARDS else config.host
    scheme = "http" if certificate is None else "https"
    return Dial(
        url=f"{scheme}://{f'[{host}]' if ':' in host else host}:{config.port}",
        token=_NO_TOKEN,
        fingerprint=None if certificate is None else certificate.fingerprint,
        insecure=config.insecure,
        proxy=False,
    )


async def _reload(dial: Dial) -> Reloaded:
    calls = HttpCalls(dial)
    try:
        return await calls.post("/reload", Reloaded, {})
    finally:
        await calls.close()


async def _ask(dial: Dial) -> str:
    """Return what is wrong with a hub; "" if nothing is."""
    async with http_client(dial) as client:
        try:
            response = await client.get("/readyz", timeout=WELL_S)
        except httpx.TransportError as error:
            return f"does not answer: {str(error) or type(error).__name__}"
    return "" if response.is_success else f"is not ready: it answers {response.status_code}"
