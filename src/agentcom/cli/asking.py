"""One request to the hub of this context, for commands that need no more."""

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from agentcom.cli import context
from agentcom.client.dialling import Dial
from agentcom.client.http import HttpCalls

_Shown = TypeVar("_Shown")


def ask(
    method: str,
    path: str,
    kind: type[_Shown],
    *,
    body: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
) -> _Shown:
    """Return what the hub answers; raises what it refuses."""

    async def work() -> _Shown:
        known = context.load()
        http = HttpCalls(Dial(url=known.url, token=known.token, fingerprint=known.fingerprint))
        try:
            return await http.call(method, path, kind, body=body, params=params)
        finally:
            await http.close()

    return asyncio.run(work())
