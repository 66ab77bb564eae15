"""One connection, from its first byte to its end or to its upgrade.

uvicorn's parser reads every request head; ordinary requests go to the ASGI app, an accepted
upgrade hands the transport to the socket codec. What uvicorn leaves open is closed here: heads
without end or deadline, bytes behind a response, readers that stop. It leans on uvicorn's
`HttpToolsProtocol`, which is not public API: the versions are pinned and
`tests/transport/test_port.py` is the contract.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from agentcom.model.errors import AgentComError, MalformedInput, NotFound, Unsupported
from agentcom.transport.census import Admission, Census
from agentcom.transport.forwarded import client_of, trusts
from agentcom.transport.guard import HeadTooLarge, Rules, TooManyConnections, check_head
from agentcom.transport.problem import Refusal, http_bytes, refusal
from agentcom.transport.socket import (
    Accept,
    Head,
    Opening,
    OpenSocket,
    PortLimits,
    Route,
    SocketRegistry,
    subprotocol_for,
)

SOCKET_VERSION: Final = b"13"  # RFC 6455
SOCKET_KEY_BYTES: Final = 16  # RFC 6455 4.1
_HEADER_OVERHEAD: Final = 4  # ": " and CR LF


class WrongSocketVersion(Unsupported):
    """Only version 13 of the WebSocket protocol (RFC 6455) is spoken here."""

    status = 426


@dataclass(slots=True, kw_only=True)
class House:
    """What all doors of one port share."""

    config: Config
    state: ServerState
    limits: PortLimits
    rules: Rules
    census: Census
    routes: Mapping[bytes, Route]
    is_trusted: Callable[[Head], bool]
    open_socket: OpenSocket
    registry: SocketRegistry
    stopping: asyncio.Event
    left: Callable[[], None]
    """Called when a connection is gone."""
    date_s: int = 0


class _Refused(Exception):
    """Leaves the parser in the middle of a head."""


class Door(HttpToolsProtocol):
    """uvicorn's HTTP connection with deadlines, bounds, and a way out to a socket codec."""

    def __init__(self, house: House) -> None:
        super().__init__(config=house.config, server_state=house.state, app_state={})
        self.access_log = False  # uvicorn asks the logger, not its own setting
        self.timeout_keep_alive = house.limits.idle_ms / 1000  # type: ignore[assignment]  # only handed to call_later
        self._house = house
        self._admission = Admission.FULL
        self._trusted = False
        self._refusal: Refusal | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._in_head = False
        self._deaf = False
        self._head_bytes = 0
        self._pending_bytes = 0  # received since the parser last gave something out

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        super().connection_made(transport)
        self._trusted = trusts(self._house.rules.proxies, self._peer)
        if not self._trusted:
            self._admission = self._house.census.enter(self._peer)
        full = self._admission is Admission.FULL and not self._trusted
        if full or self._house.stopping.is_set():
            transport.abort()
            return
        self._arm(self._house.limits.head_ms)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._unset_keepalive_if_required()
        if self._stall is not None:
            self._stall.cancel()
        self._leave_census()
        super().connection_lost(exc)
        self._house.left()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._pending_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._upgrade(data[upgrade.args[0] :])
                return
        except httptools.HttpParserError:
            error = MalformedInput("this is not a valid HTTP/1.1 request")
            self._refuse(self._refusal or refusal(error))
            return
        self._watch()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer must not become a header of a running request
            super().on_header(name, value.rstrip(b" \t"))  # RFC 9110 5.5: not part of the value
        self._count(len(name) + len(value) + _HEADER_OVERHEAD)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._disarm()
        if not (self.parser.should_upgrade() and self._should_upgrade()):
            self._check_trust(self._head())
            self._refresh_date()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._pending_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._watch_reader()

    def timeout_keep_alive_handler(self) -> None:
        self._end()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _should_upgrade_to_ws(self) -> bool:
        return True

    def _upgrade(self, early: bytes) -> None:
        if self._busy():
            self._finish_then_close()
            return
        head = self._head()
        try:
            opening = self._admit(head, early)
        except AgentComError as error:
            extra = (
                [(b"sec-websocket-version", SOCKET_VERSION)]
                if error.status == HTTPStatus.UPGRADE_REQUIRED
                else []
            )
            self._refuse(refusal(error, extra=extra))
            return
        if isinstance(opening, Refusal):
            self._refuse(opening)
            return
        self._disarm()
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment]  # breaks the cycle, as uvicorn does
        self._leave_census()  # the registry counts sockets
        self._house.open_socket(self.transport, opening)

    def _admit(self, head: Head, early: bytes) -> Opening | Refusal:
        house = self._house
        check_head(head, house.rules, origin=True)
        route = house.routes.get(head.path)
        if route is None:
            raise NotFound("there is no socket at this path")
        key = _socket_key(head)
        trusted = self._trusted or house.is_trusted(head)
        if self._admission is Admission.PROBATION and not trusted:
            raise TooManyConnections
        decision = route(head)
        if isinstance(decision, Refusal):
            return decision
        if not isinstance(decision, Accept):
            decision = Accept(decision, subprotocol_for(head.subprotocols))
        return Opening(
            head=head,
            key=key,
            subprotocol=decision.subprotocol,
            early=early,
            listener=decision.listener,
            limits=house.limits,
            registry=house.registry,
            trusted=trusted,
        )

    def _head(self) -> Head:
        url = httptools.parse_url(self.url)
        client = client_of(
            self._house.rules.proxies, self._peer, self.headers, secure=self.scheme == "https"
        )
        return Head(
            method=self.parser.get_method().decode(),
            path=url.path or b"/",
            query=url.query or b"",
            headers=self.headers,
            peer=client.address,
            secure=client.secure,
        )

    def _check_trust(self, head: Head) -> None:
        if self._trusted:
            return
        if self._house.is_trusted(head):
            self._trusted = True
            self._leave_census()
        elif self._admission is Admission.PROBATION:
            self._refused(TooManyConnections())

    def _count(self, size: int) -> None:
        self._pending_bytes = 0
        self._head_bytes += size
        if self._head_bytes > self._house.limits.head_bytes_max:
            self._refused(HeadTooLarge())

    def _refused(self, error: AgentComError) -> None:
        self._refusal = refusal(error)
        raise _Refused

    def _watch(self) -> None:
        """After each packet: whatever is not a request in progress has a bound and a deadline."""
        maximum = self._house.limits.head_bytes_max
        pending = self._pending_bytes + (self._head_bytes if self._in_head else 0)
        if pending > maximum:
            self._refuse(refusal(HeadTooLarge()))
        elif self._in_head or not self._busy():
            self._arm(self._house.limits.head_ms)

    def _refuse(self, answer: Refusal) -> None:
        """Answer, stop listening, and close when the peer had time to read the answer."""
        cycle = self.cycle
        if self._busy():
            if not cycle.more_body:
                self._finish_then_close()
                return
            if cycle.response_started or self.pipeline:
                self.transport.abort()
                return
            cycle.disconnected = True  # its body will never be complete
            cycle.message_event.set()
        self._deaf = True
        self.transport.write(http_bytes(answer))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._disarm()
            self._arm(self._house.limits.linger_ms)
        else:
            self.transport.close()

    def _finish_then_close(self) -> None:
        self._deaf = True
        self.cycle.keep_alive = False

    def _busy(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _arm(self, delay_ms: int) -> None:
        if self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(delay_ms / 1000, self._overdue)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _overdue(self) -> None:
        self._deadline = None
        if self._busy() and not self._deaf:
            self._finish_then_close()  # half a head behind a request that is still being answered
        else:
            self._end()

    def _watch_reader(self) -> None:
        if self._stall is None:
            delay_s = self._house.limits.stall_ms / 1000
            self._stall = self.loop.call_later(delay_s, self.transport.abort)

    def _end(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # close() would wait for a reader that takes nothing
        else:
            self.transport.close()

    def _leave_census(self) -> None:
        self._house.census.leave(self._peer, self._admission)
        self._admission = Admission.FULL

    def _refresh_date(self) -> None:
        house = self._house
        now_s = int(time.time())
        if now_s != house.date_s:  # no timer: an idle port does not wake up
            house.date_s = now_s
            house.state.default_headers = [(b"date", formatdate(now_s, usegmt=True).encode())]

    @property
    def _peer(self) -> str:
        return self.client[0] if self.client else ""


def _socket_key(head: Head) -> bytes:
    if head.method != "GET" or head.header(b"content-length") not in {None, b"0"}:
        raise MalformedInput("an upgrade is a GET without a body")
    if head.header(b"transfer-encoding") is not None:
        raise MalformedInput("an upgrade is a GET without a body")
    if head.header(b"sec-websocket-version") != SOCKET_VERSION:
        raise WrongSocketVersion
    key = (head.header(b"sec-websocket-key") or b"").strip()
    try:
        size = len(base64.b64decode(key, validate=True))
    except binascii.Error:
        size = 0
    if size != SOCKET_KEY_BYTES:
        raise MalformedInput("Sec-WebSocket-Key is 16 bytes in base64")
    return key
