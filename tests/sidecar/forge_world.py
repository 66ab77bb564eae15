"""A forge of each kind over a real bare origin, and this machine's view of it."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from agentcom.sidecar.forge.base import Forge, ForgeSettings, Kind
from agentcom.sidecar.forge.finding import Forges
from agentcom.testing.forge.server import ForgeStandIn
from tests.sidecar.git_origin import Origin

TOKEN_ENV = "TEST_FORGE_TOKEN"
ANN = "ann"
"""Who may write to the repository."""
EVE = "eve"
"""Who may not."""


def with_work(folder: Path) -> Origin:
    """Make an origin with a branch `work` beside main."""
    origin = Origin(folder)
    origin.push({"new.txt": "new\n"}, "work")
    return origin


@contextmanager
def forge_of(kind: Kind, origin: Origin) -> Iterator[ForgeStandIn]:
    """Serve a forge whose one repository is `origin`."""
    with ForgeStandIn(kind, origin.path).serving() as stand_in:
        stand_in.repository.writers |= {ANN: True, EVE: False}
        yield stand_in


def settings_for(stand_in: ForgeStandIn, origin: Origin) -> Mapping[str, ForgeSettings]:
    """Return what a machine's settings say of that forge."""
    said = ForgeSettings(
        kind=stand_in.kind, api=stand_in.api, token_env=TOKEN_ENV, path=stand_in.path
    )
    return {origin.url: said}


@asynccontextmanager
async def forges_for(stand_in: ForgeStandIn, origin: Origin) -> AsyncIterator[Forges]:
    """Give a machine's way to that forge; the token has to be in the environment."""
    forges = Forges(settings_for(stand_in, origin))
    try:
        yield forges
    finally:
        await forges.close()


@asynccontextmanager
async def opened(
    kind: Kind, folder: Path, like: Origin | None = None
) -> AsyncIterator[tuple[ForgeStandIn, Forge, Origin]]:
    """Serve a forge with a branch `work` beside main, and open it."""
    origin = Origin(folder, like) if like is not None else with_work(folder)
    with forge_of(kind, origin) as stand_in:
        async with forges_for(stand_in, origin) as forges:
            yield stand_in, await forges.of(origin.url), origin
