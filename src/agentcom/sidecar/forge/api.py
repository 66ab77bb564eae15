"""How a forge's API is spoken to: one HTTP client, with what all three kinds have in common.

Questions are conditional where the forge gives an ETag: what did not change costs neither side
anything. No redirect is followed, and no page of another origin: the token would go there too.
"""

import asyncio
import email.utils
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec

from agentcom import __version__
from agentcom.model.numerals import whole
from agentcom.sidecar.forge.base import (
    ForgeAway,
    ForgeDenied,
    ForgeError,
    ForgeLimited,
    ForgeMissing,
)

ANSWER_BYTES_MAX: Final = 4 * 1_048_576
"""A page of 100 long comments has less than one."""
TIMEOUT_S: Final = 15.0
"""Forges answer within a second; one that needs longer is asked again later."""
PAGES_MAX: Final = 10
"""Of 100 entries each: more is said about no pull request that agents can follow."""
REMEMBERED_MAX: Final = 64
"""Answers that are kept for conditional questions, the least used forgotten first."""
LIMITED_MS: Final = 60_000
"""How long to be silent if a forge that has had enough names no time."""
LIMITED_MS_MAX: Final = 3_600_000
"""The longest window of a known forge."""
TRIES_MAX: Final = 3
"""Of a question that only reads; what writes is never sent twice."""
RETRY_S: Final = 0.5
"""The first pause; each further one is twice as long."""
_SAID_CHARS: Final = 200
_GONE: Final = frozenset({404, 410})
_LIMITED: Final = 429


class Api:
    """A forge's API for one token."""

    def __init__(
        self,
        base: str,
        headers: Mapping[str, str],
        *,
        page: Mapping[str, int],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`headers` hold the token; they go to `base` and nowhere else.

        `page` is how a list is asked for in the largest pages.
        """
        self._base = base
        self._page = page
        self._http = httpx.AsyncClient(
            headers={"user-agent": f"agentcom/{__version__}", **headers},
            timeout=TIMEOUT_S,
            follow_redirects=False,
            transport=transport,
        )
        self._known: OrderedDict[str, tuple[str, Any, str]] = OrderedDict()

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def get(self, path: str, **params: object) -> Any:
        """Return what stands at `path`; raises `ForgeError`."""
        return (await self._get(self._url(path, params)))[0]

    async def pages(self, path: str, *, of: str | None = None, **params: object) -> list[Any]:
        """Return the entries of a list, page after page, `of` a field of each page if it is one.

        Raises:
            ForgeError: the forge does not give it, or it is longer than any that we follow.
        """
        found: list[Any] = []
        url: str | None = self._url(path, {**self._page, **params})
        for _ in range(PAGES_MAX):
            if url is None:
                return found
            body, url = await self._get(url)
            entries = body if of is None else body.get(of) if isinstance(body, dict) else None
            if not isinstance(entries, list):
                raise ForgeError(f"{path}: the forge answered with something that is no list")
            found += entries
        return found

    async def send(self, method: str, path: str, body: Mapping[str, object]) -> Any:
        """Write something, once; raises `ForgeError`."""
        response = await self._ask(method, self._url(path, {}), json=dict(body))
        return _decoded(response)

    def _url(self, path: str, params: Mapping[str, object]) -> str:
        query = httpx.QueryParams({name: str(value) for name, value in params.items()})
        return f"{self._base}{path}" + (f"?{query}" if query else "")

    async def _get(self, url: str) -> tuple[Any, str | None]:
        known = self._known.get(url)
        headers = {"if-none-match": known[0]} if known is not None else {}
        response = await self._patiently(url, headers)
        if response.status_code == httpx.codes.NOT_MODIFIED and known is not None:
            self._known.move_to_end(url)
            return known[1], known[2] or None
        body, after = _decoded(response), self._next(response)
        tag = response.headers.get("etag")
        if tag:
            self._known[url] = (tag, body, after or "")
            if len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)
        return body, after

    async def _patiently(self, url: str, headers: Mapping[str, str]) -> httpx.Response:
        for tries in range(TRIES_MAX):
            try:
                return await self._ask("GET", url, headers=headers)
            except ForgeAway:
                if tries == TRIES_MAX - 1:
                    raise
            await asyncio.sleep(RETRY_S * (1 << tries))
        raise AssertionError("the loop returns or raises")

    async def _ask(self, method: str, url: str, **more: Any) -> httpx.Response:
        try:
            async with self._http.stream(method, url, **more) as response:
                await _read(response)
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise ForgeAway(f"{self._base} does not answer: {said}") from error
        _check(response)
        return response

    def _next(self, response: httpx.Response) -> str | None:
        link = response.links.get("next", {}).get("url")
        if not link:
            return None
        url = str(response.request.url.join(link))
        if not url.startswith(f"{self._base}/"):
            raise ForgeError(f"{self._base} names a next page elsewhere: not followed")
        return url


async def _read(response: httpx.Response) -> None:
    body, size = [], 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > ANSWER_BYTES_MAX:
            raise ForgeError(f"the forge answered with more than {ANSWER_BYTES_MAX} bytes")
        body.append(chunk)
    response._content = b"".join(body)  # noqa: SLF001 - what `aread` does, with a bound


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if status < httpx.codes.MULTIPLE_CHOICES or status == httpx.codes.NOT_MODIFIED:
        return
    where = f"{response.request.method} {response.request.url.path}"
    said = f"{where}: {status} {_said(response)}".strip()
    wait_ms = _limited_ms(response)
    if wait_ms is not None:
        raise ForgeLimited(f"{said}; again in {wait_ms // 1_000} s", wait_ms)
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise ForgeDenied(f"{said}: give this machine a token that may push and open pull requests")
    if status in _GONE:
        raise ForgeMissing(said)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise ForgeAway(said)
    raise ForgeError(said)


def _limited_ms(response: httpx.Response) -> int | None:
    """Return how long a forge wants no question; None if it is not that."""
    status, headers = response.status_code, response.headers
    spent = headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers
    if status != _LIMITED and not (status == httpx.codes.FORBIDDEN and spent):
        return None
    after = whole(headers.get("retry-after", ""))
    if after is not None:
        return min(after * 1_000, LIMITED_MS_MAX)
    reset = whole(headers.get("x-ratelimit-reset", headers.get("ratelimit-reset", "")))
    # Against the forge's own clock, since ours may be another.
    date = email.utils.parsedate_tz(headers.get("date", ""))
    if reset is None or date is None:
        return LIMITED_MS
    left_ms = (reset - int(email.utils.mktime_tz(date))) * 1_000
    return min(max(left_ms, 1_000), LIMITED_MS_MAX)


def _decoded(response: httpx.Response) -> Any:
    if not response.content:
        return None
    try:
        return msgspec.json.decode(response.content)
    except msgspec.DecodeError as error:
        where = response.request.url.path
        raise ForgeError(f"{where}: the forge answered with something that is no JSON") from error


def _said(response: httpx.Response) -> str:
    """Return what a forge said of an error, in one line."""
    try:
        body = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        return ""
    said: object = body
    if isinstance(body, dict):
        said = body.get("message") or body.get("error") or ""
        detail = body.get("errors")
        said = f"{said} {detail}" if detail else said
    return " ".join(str(said).split())[:_SAID_CHARS]
