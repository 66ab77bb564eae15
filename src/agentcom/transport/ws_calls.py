"""Calls over a WebSocket: each is answered under its key, in its own time."""

import asyncio
from functools import partial
from typing import Final

import structlog

from agentcom.hub import speaking
from agentcom.hub.requests import check_key
from agentcom.hub.speaking import Speaker
from agentcom.model.errors import AgentComError, RateLimited, Unavailable
from agentcom.protocol import codec, frames
from agentcom.protocol.calls import Call
from agentcom.transport.ws_session import Session

CALLS_MAX: Final = 256  # of one connection that have no answer yet
_BUSY_MS: Final = 1_000

log = structlog.get_logger(__name__)


class Calls:
    """The calls of one connection that are under way."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, frame: frames.CallFrame) -> None:
        """Begin a call; raises what is wrong with it."""
        session = self._session
        key = check_key(frame.key)
        if len(self._tasks) >= CALLS_MAX:
            raise RateLimited(f"at most {CALLS_MAX} calls at once", _BUSY_MS)
        call = codec.decode_call(frame.call)
        task = asyncio.create_task(self._answer(key, self._speaker(frame), call))
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, key))
        if session.closed:
            task.cancel()

    def gone(self) -> None:
        """Forget them all: nobody waits for an answer."""
        for task in self._tasks:
            task.cancel()

    def _speaker(self, frame: frames.CallFrame) -> Speaker:
        desk, identity = self._session.desk, self._session.identity
        if frame.task is None or frame.fence is None:
            return speaking.person(identity)
        return speaking.attempt(desk.engine.view, identity, frame.task, frame.fence)

    async def _answer(self, key: str, speaker: Speaker, call: Call) -> None:
        session = self._session
        try:
            answer = await session.desk.talk.do(
                speaker, call, cause=session.desk.causes.new(), key=key
            )
        except AgentComError as error:
            session.error(error, key=key)
            return
        session.reply(key, answer)

    def _done(self, key: str, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("call.failed", exc_info=error)
            self._session.error(Unavailable("the hub made a mistake; its log has it"), key=key)
