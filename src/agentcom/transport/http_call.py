"""One call of the HTTP door: who asks, for what, and how the pool is asked in turn.

Also the shape of the route table (`Endpoint`). The table is in the `http_*` files by resource,
the way of a request through it in `http.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.hub.address import Address
from agentcom.hub.alerting import Alerting
from agentcom.hub.audit_log import AuditLog
from agentcom.hub.auth import Authenticator
from agentcom.hub.blobs import Blobs
from agentcom.hub.choosing import Chooser
from agentcom.hub.clock import Clock
from agentcom.hub.credentials import Credentials
from agentcom.hub.engine import Engine
from agentcom.hub.enrolment import Enrolment
from agentcom.hub.external import Externals
from agentcom.hub.feeds import Feeds
from agentcom.hub.forge_events import ForgeEvents
from agentcom.hub.leaving import Leaving
from agentcom.hub.limits_guard import Budgets, Traffic
from agentcom.hub.listening import Listening
from agentcom.hub.presence_watch import PresenceWatch
from agentcom.hub.queries import Queries
from agentcom.hub.queries_fleet import Fleet
from agentcom.hub.queries_graphs import Graphs
from agentcom.hub.queries_people import People
from agentcom.hub.requests import Causes, payload_hash
from agentcom.hub.schedules import Schedules
from agentcom.hub.services import ASK_MS, ask
from agentcom.hub.talk import Talk
from agentcom.model.audit import Door, Origin
from agentcom.model.errors import AgentComError, NotAuthenticated, NotFound
from agentcom.model.identity import Identity
from agentcom.model.ids import MachineId, Now
from agentcom.model.policy import Action
from agentcom.model.replies import Reply
from agentcom.protocol import frames
from agentcom.protocol.settings import Reloaded
from agentcom.protocol.shown import HubStatus
from agentcom.telemetry.levels import Levels
from agentcom.telemetry.metrics import Metrics

PREFIX: Final = "/api/v1"

T = TypeVar("T")


class Gate(StrEnum):
    """Who may use a route that no action guards."""

    OPEN = "open"
    SIGNED_IN = "signed_in"


class WrongMethod(AgentComError):
    """This path does not take this method; the Allow header names those that it takes."""

    code = "method_not_allowed"
    status = 405


class WrongMediaType(AgentComError):
    """Send JSON, with the header `Content-Type: application/json`."""

    code = "wrong_media_type"
    status = 415


class Ended(NotAuthenticated):
    """The token was revoked or has expired while it was asked with."""

    def __init__(self) -> None:
        super().__init__(str(self.__doc__))


@dataclass(slots=True, kw_only=True)
class Hall:
    """What all calls of a hub share."""

    engine: Engine
    feeds: Feeds
    auth: Authenticator
    audit: AuditLog
    credentials: Credentials
    enrolment: Enrolment
    budgets: Budgets
    clock: Clock
    causes: Causes
    queries: Queries
    graphs: Graphs
    chooser: Chooser
    fleet: Fleet
    people: People
    leaving: Leaving
    schedules: Schedules
    talk: Talk
    externals: Externals
    listening: Listening
    watch: PresenceWatch
    blobs: Blobs
    forge_events: ForgeEvents
    alerting: Alerting
    metrics: Metrics
    levels: Levels
    measure: Callable[[], Awaitable[None]]
    """Reads anew what metrics say of the disk."""
    status: Callable[[], HubStatus]
    is_ready: Callable[[], bool]
    drain: Callable[[], None]
    """Stops the hub in good order, as SIGTERM does."""
    reload: Callable[[str], Reloaded]
    """Takes up changed settings for whom it names, as SIGHUP does; raises `ConfigKept`."""
    bring: Callable[[MachineId, frames.Frame], bool]
    """Sends a machine a frame; False if it is not there."""
    address: Callable[[], Address]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the hub stops: endless answers end then."""
    ask_ms: int = ASK_MS
    streams: dict[str, int] = field(default_factory=dict)
    """Open event streams by credential."""
    asked: dict[str, int] = field(default_factory=dict)
    """Requests of MCP clients that have no answer yet, by credential."""


@dataclass(slots=True, kw_only=True)
class Call:
    """One request, as far as its handler may see it."""

    hall: Hall
    request: Request
    cause: str
    identity: Identity | None
    body: object = None
    query: object = None
    key: str | None = None

    @property
    def who(self) -> Identity:
        """The caller; only on routes that are not open."""
        assert self.identity is not None
        return self.identity

    @property
    def now(self) -> Now:
        """Both clocks."""
        return self.hall.clock.now()

    @property
    def peer(self) -> str:
        """The caller's network address."""
        client = self.request.client
        return client.host if client is not None else ""

    def given(self, kind: type[T]) -> T:
        """Return the body, which the route table says is a `kind`."""
        assert isinstance(self.body, kind)
        return self.body

    def asked(self, kind: type[T]) -> T:
        """Return the query, which the route table says is a `kind`."""
        assert isinstance(self.query, kind)
        return self.query

    def named(self) -> str:
        """Return the id in the path; raises `NotFound` for what can be none."""
        text = str(self.request.path_params["id"])
        if not text.isprintable():
            raise NotFound("there is no such thing")
        return text

    async def ask(
        self, body: facts.Body, *, keyed: bool = True, asked: msgspec.Struct | None = None
    ) -> Reply | msgspec.Raw:
        """Bring a fact to the pool and return its answer.

        `asked` is what makes a repeat the same, if the fact itself may differ by then.

        Raises:
            Timeout: there is none in time; it may come true nevertheless.
        """
        key = self.key if keyed else None
        payload = payload_hash(asked or body) if key is not None else None
        origin = Origin(Door.HTTP, self.peer)
        fact = Fact(
            body=body, actor=self.who, cause=self.cause, key=key, payload=payload, origin=origin
        )
        return await ask(self.hall.engine, fact, ask_ms=self.hall.ask_ms)


async def while_live(auth: Authenticator, who: Identity, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` comes to; it is cancelled as soon as the token of `who` ends.

    Raises:
        Ended: that is what happened.
    """
    task = asyncio.ensure_future(work)
    ended = False

    def look(credential: str) -> None:
        nonlocal ended
        if credential == who.credential:
            ended = True
            task.cancel()

    forget = auth.on_revoked(look)
    try:
        return await task
    except asyncio.CancelledError:
        if ended:
            raise Ended from None
        task.cancel()
        raise
    finally:
        forget()


Handler = Callable[[Call], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One line of the route table."""

    method: str
    path: str
    access: Action | Gate
    handler: Handler
    summary: str
    reply: Any
    """The type of the answer, for the OpenAPI document; None: no JSON."""
    body: Any = None
    body_optional: bool = False
    query: type[msgspec.Struct] | None = None
    status: int = 200
    keyed: bool = False
    """Whether a repeat with the same Idempotency-Key gets the same answer."""
    traffic: Traffic | None = Traffic.QUERY
    """The budget that a call spends; None: the handler knows better."""
    cost: int = 1
    """How many units of it: as many plain reads as it weighs."""
    media: str = "application/json"
    also: str | None = None
    """Another media type that the route can answer with."""

    @property
    def bodies(self) -> Sequence[Any]:
        """The types that the body can have."""
        if self.body is None:
            return ()
        return getattr(self.body, "body_kinds", (self.body,))
