"""A way through an HTTP proxy, to an address that was looked up and checked before.

The proxy is asked for the address, not for the name: so it connects where the rules allow it, and
what is sent stays between the hub and the other end, whose certificate is checked as ever.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

import httpcore

from agentcom.core.outgoing import Target

_HEAD_BYTES: Final = 16_384
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")


class Tunnel(httpcore.AsyncNetworkBackend):
    """Connects through one proxy."""

    def __init__(self, proxy: Target) -> None:
        self._proxy = proxy
        self._direct = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the backend's own signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._direct.connect_tcp(
            self._proxy.host, self._proxy.port, timeout, local_address, socket_options
        )
        try:
            await self._ask(stream, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def _ask(self, stream: httpcore.AsyncNetworkStream, place: str) -> None:
        await stream.write(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # nothing comes after it before we speak
            more = await stream.read(_HEAD_BYTES - len(head)) if len(head) < _HEAD_BYTES else b""
            if not more:
                raise httpcore.ProxyError("the proxy gave no answer")
            head += more
        status = _STATUS.match(head)
        if status is None:
            raise httpcore.ProxyError("the proxy is none")
        if not status[1].startswith(b"2"):
            code = status[1].decode()
            raise httpcore.ProxyError(f"the proxy answered {code}")
