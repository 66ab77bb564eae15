"""What helps when the last admin's token is lost: a new one, written into a stopped hub."""

import asyncio
import sys
from pathlib import Path

from agentcom import app
from agentcom.cli import context
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.hub import config as hub_config
from agentcom.hub.auth import Authenticator
from agentcom.hub.clock import SystemClock
from agentcom.hub.config import HubConfig
from agentcom.hub.credentials import Credentials
from agentcom.hub.identifiers import UuidIds
from agentcom.model.ids import UserId
from agentcom.telemetry import logs


def admin_token(home: Path, user: str | None) -> tuple[str, str]:
    """Return an admin of the hub in `home` and a new token; it is kept here, too.

    Raises:
        CommandFailed: there is no hub in that folder.
        NotFound: it has no such admin.
        StoreRefused: the hub runs, or its store is damaged.
    """
    if not (home / app.STORE_FILE).exists():
        raise CommandFailed(
            f"there is no hub in {home}",
            hint="agentcom hub admin-token --home FOLDER",
            exit_code=Exit.MISSING,
            code="not_found",
        )
    config = hub_config.load(flags={"home": home})
    pipe = logs.configure(as_json=not sys.stderr.isatty())
    try:
        owner, token = asyncio.run(_mint(config, user))
    finally:
        pipe.close()
    known = context.of_hub(home)
    if known is not None:
        context.renew(known, token)
    elif home == context.hub_home():
        # The next `up` finds it by its folder, and puts the hub's address in.
        url = f"http://127.0.0.1:{config.port}"
        context.save(context.Context(url=url, token=token, user=owner, home=str(home)))
    return owner, token


async def _mint(config: HubConfig, user: str | None) -> tuple[UserId, str]:
    store, clock = app.open_store(config), SystemClock()
    ids = UuidIds(clock)
    await store.open()
    try:
        credentials = Credentials(Authenticator(store, clock, ids), store, clock, ids)
        return await credentials.recover_admin(None if user is None else UserId(user))
    finally:
        await store.close()
