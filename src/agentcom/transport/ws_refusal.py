"""How a socket says no: a frame with the cause under which the hub's log knows the refusal."""

import structlog

from agentcom.model.errors import AgentComError, RateLimited
from agentcom.protocol.frames import ErrorFrame
from agentcom.telemetry import events
from agentcom.telemetry.redact import redact

log = structlog.get_logger(__name__)


def frame(error: AgentComError, *, cause: str, who: str, key: str | None) -> ErrorFrame:
    """Return the frame that refuses a request (`key`), or a frame; it is logged, too."""
    after_ms = error.retry_after_ms if isinstance(error, RateLimited) else None
    if after_ms is None:  # else a flood of lines would come after the flood of frames
        log.info(events.REQUEST_REFUSED, cause=cause, actor=who, code=error.code)
    return ErrorFrame(
        code=error.code,
        message=redact(error.message),
        key=key,
        retry_after_ms=after_ms,
        cause=cause,
    )
