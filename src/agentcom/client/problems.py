"""Refusals of the hub as exceptions: the code of a frame or a problem document names the class."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from agentcom.model import errors
from agentcom.model.errors import AgentComError

_RETRY_MS: Final = 1_000  # for a hub that says "later" without saying when


class Refused(AgentComError):
    """The hub refused, with a code that this version does not know."""

    def __init__(self, message: str, *, code: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # one class for all codes of the future
        self.status = status  # type: ignore[misc]  # likewise


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem document (RFC 9457), as far as a client reads it."""

    title: str = ""
    status: int = 500
    detail: str = ""
    code: str = "error"
    retry_after: int | None = None
    cause: str = ""


_PLAIN: Final[Mapping[str, type[AgentComError]]] = MappingProxyType(
    {
        kind.code: kind
        for kind in (
            errors.MalformedInput,
            errors.TooLarge,
            errors.Unsupported,
            errors.NotAuthenticated,
            errors.NotAllowed,
            errors.NotFound,
            errors.Conflict,
            errors.KeyReused,
            errors.NameTaken,
            errors.AskOver,
            errors.LockCycle,
            errors.LockOver,
            errors.Stale,
            errors.Superseded,
            errors.MailboxFull,
            errors.TooManyAsks,
            errors.TooManyLocks,
            errors.StorageFull,
            errors.Unavailable,
            errors.Timeout,
            errors.Fault,
            errors.StoreRefused,
        )
    }
)
_OF_A_FIELD: Final[Mapping[str, type[errors.InvalidInput]]] = MappingProxyType(
    {kind.code: kind for kind in (errors.InvalidInput, errors.CursorAhead)}
)
_BY_STATUS: Final[Mapping[int, type[AgentComError]]] = MappingProxyType(
    {
        401: errors.NotAuthenticated,
        403: errors.NotAllowed,
        404: errors.NotFound,
        409: errors.Conflict,
        413: errors.TooLarge,
        503: errors.Unavailable,
        504: errors.Timeout,
        507: errors.StorageFull,
    }
)


def error_of(code: str, message: str, *, retry_after_ms: int | None = None) -> AgentComError:
    """Return the exception that a refusal's code stands for."""
    plain = _PLAIN.get(code)
    if plain is not None:
        return plain(message)
    if code in _OF_A_FIELD:
        field, _, rule = message.partition(": ")
        return _OF_A_FIELD[code](field, rule)
    if code == errors.IllegalTransition.code:
        state, _, event = message.removeprefix("a task that is ").partition(" cannot take ")
        return errors.IllegalTransition(state, event)
    if retry_after_ms is not None or code == errors.RateLimited.code:
        return errors.RateLimited(message, _RETRY_MS if retry_after_ms is None else retry_after_ms)
    return Refused(message, code=code)


def error_of_response(status: int, body: bytes) -> AgentComError:
    """Return the exception for an HTTP answer that says no."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        kind = _BY_STATUS.get(status)
        message = f"the hub, or something before it, answered {status}"
        return Refused(message, code="error", status=status) if kind is None else kind(message)
    seconds = problem.retry_after
    after_ms = None if seconds is None else seconds * 1_000
    message = problem.detail or problem.title
    error = error_of(problem.code, message, retry_after_ms=after_ms)
    if isinstance(error, Refused):
        error.status = status  # type: ignore[misc]  # see above
    if problem.cause:
        error.cause = problem.cause
    return error
