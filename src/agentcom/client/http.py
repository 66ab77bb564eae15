"""HTTP calls to the hub: typed answers, refusals as exceptions, proxies honoured."""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from agentcom.client.dialling import Dial, NotReached, check_url, tls_context, unreached
from agentcom.client.problems import error_of_response
from agentcom.model import errors
from agentcom.model.ids import Rng
from agentcom.protocol.calls import Call, name_of

API: Final = "/api/v1"
_ELSEWHERE: Final = ("/metrics", "/healthz", "/readyz")
CONNECT_TIMEOUT_S: Final = 10.0
CONNECTIONS_MAX: Final = 100
READ_TIMEOUT_S: Final = 30.0
"""Longer than any commit; the hub answers 504 before that."""
PATIENCE_S: Final = 30.0
"""How long a call waits, in all, for a hub that has too much to do."""
_REFUSED_FROM: Final = 300

T = TypeVar("T")
Params = Mapping[str, str | int | bool | None]


def http_client(dial: Dial, *, connections_max: int | None = CONNECTIONS_MAX) -> httpx.AsyncClient:
    """Return an HTTP client of a hub, with its token; it connects when first used.

    Raises:
        InvalidInput: the address would send the token in clear.
    """
    address = check_url(dial.url, insecure=dial.insecure)
    context = tls_context(address, dial.fingerprint)
    scheme = "https" if context is not None else "http"
    proxy = dial.proxy
    return httpx.AsyncClient(
        base_url=f"{scheme}://{urlsplit(address).netloc}",
        headers={"Authorization": f"Bearer {dial.token}", "User-Agent": dial.software},
        verify=context if context is not None else False,
        timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=connections_max),
        trust_env=proxy is True,
        proxy=proxy if isinstance(proxy, str) else None,
        follow_redirects=False,  # a redirect would carry the token to wherever it points
    )


class HttpCalls:
    """A client of the hub's HTTP interface; connects when first used."""

    def __init__(self, dial: Dial, *, rng: Rng | None = None) -> None:
        """Raises `InvalidInput` if the address would send the token in clear."""
        self._rng = rng or random.SystemRandom()
        self._client = http_client(dial)
        self._base = str(self._client.base_url).rstrip("/")

    async def get(self, path: str, kind: type[T], params: Params | None = None) -> T:
        """Return what is at `path` (below `/api/v1`), decoded as `kind`."""
        return await self.call("GET", path, kind, params=params)

    async def post(
        self, path: str, kind: type[T], body: Any = None, *, key: str | None = None
    ) -> T:
        """Send `body` to `path`; `key` makes a repeat harmless."""
        return await self.call("POST", path, kind, body=body, key=key)

    async def call(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        params: Params | None = None,
        body: Any = None,
        key: str | None = None,
    ) -> T:
        """Make one call and return the decoded answer.

        Raises:
            NotReached: there is no hub at the address.
            Timeout: no answer in time; ask again with the same key.
            AgentComError: what the hub refused it with.
        """
        response = await self.send(method, path, params=params, body=body, key=key)
        try:
            return msgspec.json.decode(response.content or b"null", type=kind)
        except msgspec.DecodeError as error:
            message = f"the hub answered {path} with what this version does not understand: {error}"
            raise errors.MalformedInput(message) from None

    async def do(self, call: Call, kind: type[T], *, key: str | None = None) -> T:
        """Make a call of `protocol/calls.py` and return its answer, a `kind`; raises as `call`."""
        return await self.call("POST", f"/calls/{name_of(type(call))}", kind, body=call, key=key)

    async def upload(self, path: str, data: bytes, kind: type[T], params: Params) -> T:
        """Send bytes as they are and return the decoded answer; raises as `call`."""
        response = await self.send("POST", path, params=params, body=data)
        return msgspec.json.decode(response.content, type=kind)

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        key: str | None = None,
    ) -> httpx.Response:
        """Make one call and return the answer as it is; raises as `call`.

        A body of bytes goes as it is, any other as JSON. A hub that has too much to do is asked
        again when it says so, or a while later: it has done nothing.
        """
        left_s = PATIENCE_S
        while True:
            try:
                return await self._send(method, path, params=params, body=body, key=key)
            except errors.RateLimited as error:
                later_s = error.retry_after_ms / 1_000 * (1 + self._rng.random())
                left_s -= later_s
                if left_s < 0:
                    raise
                await asyncio.sleep(later_s)

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None,
        body: Any,
        key: str | None,
    ) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        content = None
        if isinstance(body, bytes):
            content = body
            headers["Content-Type"] = "application/octet-stream"
        elif body is not None:
            content = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        wanted = {name: value for name, value in (params or {}).items() if value is not None}
        url = path if path.startswith((API, *_ELSEWHERE)) else API + path
        try:
            response = await self._client.request(
                method, url, params=wanted, content=content, headers=headers
            )
        except httpx.ReadTimeout:
            raise errors.Timeout("the hub did not answer in time; ask again") from None
        except httpx.TransportError as error:
            raise unreached(self._base, error) from error
        if response.status_code >= _REFUSED_FROM:
            raise error_of_response(response.status_code, response.content)
        return response

    async def each_line(self, path: str, take: Callable[[bytes], None]) -> None:
        """Give every line of a long answer to `take`, as they come; raises as `call`."""
        try:
            async with self._client.stream("GET", API + path) as response:
                if response.status_code >= _REFUSED_FROM:
                    raise error_of_response(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    take(line.encode())
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise NotReached(f"cannot reach the hub at {self._base}: {reason}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
