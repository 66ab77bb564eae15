"""Problem details (RFC 9457): how every door says no over HTTP.

The error tree lives in `model/errors.py`; this file only writes it down. The type is always
`about:blank`, as the RFC allows: what tells two problems apart is the stable member `code`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from agentcom.model.errors import AgentComError
from agentcom.telemetry.redact import redact

Headers = Sequence[tuple[bytes, bytes]]


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The members of one problem document."""

    title: str
    status: int
    detail: str
    code: str
    retry_after: int | None = None
    """Seconds, rounded up."""
    cause: str = ""
    """By which the hub's log knows this request."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer that says no: status, body and headers, ready to send."""

    status: int
    body: bytes
    headers: Headers


def problem(error: AgentComError, *, cause: str = "") -> Problem:
    """Return what the caller may know about `error`."""
    return Problem(
        title=_phrase(error.status),
        status=error.status,
        detail=redact(error.message),
        code=error.code,
        retry_after=_retry_after_s(error),
        cause=cause,
    )


def problem_bytes(error: AgentComError, *, cause: str = "") -> bytes:
    """Return the problem document for `error` as JSON."""
    document = {"type": "about:blank", **msgspec.to_builtins(problem(error, cause=cause))}
    return msgspec.json.encode(document)


def refusal(error: AgentComError, *, extra: Headers = (), cause: str = "") -> Refusal:
    """Return the whole HTTP answer for `error`."""
    body = problem_bytes(error, cause=cause)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        *extra,
    ]
    seconds = _retry_after_s(error)
    if seconds is not None:
        headers.append((b"retry-after", b"%d" % seconds))
    return Refusal(error.status, body, headers)


def http_bytes(answer: Refusal) -> bytes:
    """Return `answer` as it goes on the wire of a connection that closes after it."""
    lines = [b"HTTP/1.1 %d %s" % (answer.status, _phrase(answer.status).encode())]
    lines += [b"%s: %s" % header for header in answer.headers]
    return b"\r\n".join([*lines, b"connection: close", b"", answer.body])


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"


def _retry_after_s(error: AgentComError) -> int | None:
    milliseconds = getattr(error, "retry_after_ms", None)
    return None if milliseconds is None else -(-int(milliseconds) // 1000)
