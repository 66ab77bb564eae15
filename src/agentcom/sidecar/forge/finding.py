"""Which forge a repository is at, and the token that this machine has for it.

A task names its repository, so an address is somebody's word: a token goes only to the host that
it was given for, over TLS (a computer's own loopback excepted). It lives in the sidecar's
environment or with the forge's own program, and never in an argument, a log or the hub.
"""

import asyncio
import contextlib
import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from agentcom.model import refs
from agentcom.sidecar.forge import gitea, github, gitlab
from agentcom.sidecar.forge.api import Api
from agentcom.sidecar.forge.base import (
    Forge,
    ForgeDenied,
    ForgeSettings,
    Kind,
    NoForge,
    Place,
)

LOGIN_S: Final = 10.0
"""A forge's program reads its own file, or asks a keyring."""
TOKEN_CHARS_MAX: Final = 4_096
FORGES_MAX: Final = 256
"""Repositories whose forge is at hand; one more makes the oldest be opened anew."""

_SCP: Final = re.compile(r"(?:[^@/:]+@)?([^/:\[\]]+|\[[0-9A-Fa-f:.]+\]):(.+)")
_PUBLIC: Final[Mapping[str, tuple[Kind, str]]] = {
    "github.com": (Kind.GITHUB, "https://api.github.com"),
    "gitlab.com": (Kind.GITLAB, "https://gitlab.com/api/v4"),
    "codeberg.org": (Kind.GITEA, "https://codeberg.org/api/v1"),
    "gitea.com": (Kind.GITEA, "https://gitea.com/api/v1"),
}
_API: Final[Mapping[Kind, str]] = {
    Kind.GITHUB: "/api/v3",
    Kind.GITLAB: "/api/v4",
    Kind.GITEA: "/api/v1",
}
_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "github.com": ("GH_TOKEN", "GITHUB_TOKEN"),
    "gitlab.com": ("GITLAB_TOKEN",),
    "codeberg.org": ("FORGEJO_TOKEN",),
    "gitea.com": ("GITEA_TOKEN",),
}
"""Where a token is looked for by itself: each variable is for one host."""
_LOGINS: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.GITHUB: ("gh", "auth", "token", "--hostname"),
    Kind.GITLAB: ("glab", "config", "get", "token", "--host"),
}
"""Programs that print the token of the host that is named last."""


def place_of(address: str, settings: Mapping[str, ForgeSettings]) -> Place:
    """Return where a repository is.

    Raises:
        NoForge: nothing says so, or its API would be spoken to in clear text.
    """
    host, path = _parts(refs.check_repository(address))
    said = settings.get(address) or settings.get(host)
    if said is not None:
        api = said.api or f"https://{host}{_API[said.kind]}"
        place = Place(kind=said.kind, api=api.rstrip("/"), path=said.path or path, host=host)
    elif host in _PUBLIC:
        kind, api = _PUBLIC[host]
        place = Place(kind=kind, api=api, path=path, host=host)
    else:
        raise NoForge(
            f"nothing says which forge {host or address} is: name it under `forges` in the "
            "machine's settings"
        )
    if not _is_private(place.api):
        raise NoForge(f"{place.api} would show the token to others: use https")
    if place.path.count("/") < 1:
        raise NoForge(f"{address} does not tell owner and name: say `path` in the settings")
    return place


async def token_of(place: Place, said: ForgeSettings | None) -> str:
    """Return this machine's token for a forge.

    Raises:
        NoForge: it has none.
    """
    names = _VARIABLES.get(place.host, ()) if said is None or not said.api else ()
    if said is not None and said.token_env:
        names = (said.token_env,)
    found = next((os.environ[name] for name in names if os.environ.get(name)), "")
    if not found and place.host:
        found = await _printed((*_LOGINS.get(place.kind, ("",)), place.host))
    token = found.strip()
    if not token or len(token) > TOKEN_CHARS_MAX or not token.isascii() or not token.isprintable():
        where = " or ".join(names) or "the variable that `token_env` names"
        login = _LOGINS.get(place.kind, ("",))[0]
        also = f", or log in: {login} auth login --hostname {place.host}" if login else ""
        raise NoForge(f"this machine has no token for {place.host or place.api}: set {where}{also}")
    return token


class Forges:
    """The forges that this machine can speak to, opened when they are needed."""

    def __init__(self, settings: Mapping[str, ForgeSettings]) -> None:
        self._settings = settings
        self._open: dict[str, tuple[Forge, Api]] = {}

    async def of(self, address: str) -> Forge:
        """Return the forge of a repository.

        Raises:
            NoForge: nobody said where it is, or this machine has no token for it.
        """
        known = self._open.get(address)
        if known is not None:
            return known[0]
        place = place_of(address, self._settings)
        said = self._settings.get(address) or self._settings.get(place.host)
        token = await token_of(place, said)
        if len(self._open) >= FORGES_MAX:
            await self.forget(next(iter(self._open)))
        opened = _opened(place, token)
        self._open[address] = opened
        return opened[0]

    async def forget(self, address: str) -> None:
        """Open a forge anew next time: its token may be another by then."""
        known = self._open.pop(address, None)
        if known is not None:
            await known[1].close()

    async def check(self, address: str) -> None:
        """Make sure that this machine may push to a repository and open pull requests there.

        Raises:
            ForgeError: it may not, or its forge cannot be asked.
        """
        try:
            allowed = await (await self.of(address)).may_push()
        except ForgeDenied:
            await self.forget(address)
            raise
        if not allowed:
            await self.forget(address)
            raise ForgeDenied(f"this machine's token may not push to {address}")

    async def close(self) -> None:
        """End all connections."""
        for address in list(self._open):
            await self.forget(address)


def _opened(place: Place, token: str) -> tuple[Forge, Api]:
    match place.kind:
        case Kind.GITHUB:
            api = Api(place.api, github.headers(token), page={"per_page": 100})
            return github.GitHub(api, place.path), api
        case Kind.GITLAB:
            api = Api(place.api, gitlab.headers(token), page={"per_page": 100})
            return gitlab.GitLab(api, place.path), api
        case Kind.GITEA:
            api = Api(place.api, gitea.headers(token), page={"limit": 50})
            return gitea.Gitea(api, place.path), api


def _parts(address: str) -> tuple[str, str]:
    """Return host and path of an address; "" for the host of a local one."""
    if "://" in address:
        parts = urlsplit(address)
        host, path = parts.hostname or "", parts.path
    else:
        match = _SCP.fullmatch(address) if not address.startswith("/") else None
        host, path = (match[1].strip("[]").lower(), match[2]) if match else ("", address)
    return host, path.strip("/").removesuffix(".git")


def _is_private(api: str) -> bool:
    parts = urlsplit(api)
    if parts.scheme == "https":
        return bool(parts.hostname)
    with contextlib.suppress(ValueError):
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    return parts.scheme == "http" and parts.hostname == "localhost"


async def _printed(command: tuple[str, ...]) -> str:
    """Return what a forge's program prints; "" if it is not there, or not logged in."""
    if not command[0]:
        return ""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(LOGIN_S):
            out, _ = await process.communicate()
    except TimeoutError:
        return ""
    finally:  # it may hang, or nobody waits for it any more
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode("utf-8", "replace") if process.returncode == 0 else ""
