"""Server-Sent Events: what is followed over HTTP, with the same sequences as on the socket.

A stream ends with the hub, with the caller's token, or when its reader is too slow; the browser
then comes back by itself with `Last-Event-ID`.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from starlette.responses import StreamingResponse

from agentcom.model.errors import InvalidInput, RateLimited, Unsupported
from agentcom.model.event import task_log
from agentcom.model.ids import TaskId
from agentcom.model.numerals import whole
from agentcom.transport.http_call import Call

STREAMS_MAX: Final = 64  # of one token: a person with many tabs, not a crowd
SILENCE_MS: Final = 25_000  # a comment then keeps proxies from closing the stream
RETRY_MS: Final = 2_000  # when the reader comes back
_BUSY_RETRY_MS: Final = 5_000

T = TypeVar("T")


class Stream:
    """A feed's sink that is read as chunks of a response."""

    def __init__(self, kind: str = "event") -> None:
        self._kind = kind.encode()
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._over = False

    @property
    def buffered_bytes(self) -> int:
        """What was given but has not left yet."""
        return self._bytes

    def records(
        self,
        first: int,
        payloads: Sequence[bytes],
        *,
        at_once: bool = False,  # noqa: ARG002  # its reader takes what there is
    ) -> None:
        """Take frames that have a sequence."""
        for seq, payload in enumerate(payloads, first):
            self._add(b"id: %d\nevent: %b\ndata: %b\n\n" % (seq, self._kind, payload))

    def place(self, seq: int) -> None:
        """Tell the reader where it is, before anything has come."""
        self._add(b"id: %d\n\n" % seq)

    def activity(self, payload: bytes) -> None:
        """Take an `activity` frame."""
        self.tell("activity", payload)

    def tell(self, kind: str, payload: bytes) -> None:
        """Take a frame that has no sequence."""
        self._add(b"event: %b\ndata: %b\n\n" % (kind.encode(), payload))

    def too_slow(self) -> None:
        """End the stream; the reader resumes by sequence."""
        self.end()

    def end(self) -> None:
        """Give out what there is, and no more."""
        self._over = True
        self._news.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what comes, until the end."""
        yield b"retry: %d\n\n" % RETRY_MS
        while True:
            try:
                async with asyncio.timeout(SILENCE_MS / 1_000):
                    await self._news.wait()
            except TimeoutError:
                yield b":\n\n"
                continue
            self._news.clear()
            while self._chunks:
                chunk = self._chunks.popleft()
                yield chunk
                self._bytes -= len(chunk)
            if self._over:
                return

    def _add(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._bytes += len(chunk)
        self._news.set()


Begin = Callable[[Stream], Awaitable[Callable[[], None]]]
"""Has a sink filled; returns what ends that."""


def stream(call: Call, task: TaskId, *, after: int, progress: bool) -> StreamingResponse:
    """Return the feed of a task as an endless response; raises as `response`."""
    feeds, who = call.hall.feeds, call.who

    async def begin(sink: Stream) -> Callable[[], None]:
        feed = feeds.follow(sink, who, task_log(task), after=after, progress=progress)
        return partial(feeds.leave, feed)

    return response(call, Stream(), begin)


def response(call: Call, sink: Stream, begin: Begin) -> StreamingResponse:
    """Return an endless response.

    Raises:
        RateLimited: this token has too many streams open.
    """
    streams, credential = call.hall.streams, call.who.credential
    if streams.get(credential, 0) >= STREAMS_MAX:
        raise RateLimited(f"at most {STREAMS_MAX} event streams at once", _BUSY_RETRY_MS)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_follow(call, sink, begin), 200, headers, "text/event-stream")


async def _follow(call: Call, sink: Stream, begin: Begin) -> AsyncIterator[bytes]:
    hall, who = call.hall, call.who

    def ended(credential: str) -> None:
        if credential == who.credential:
            sink.end()

    async with contextlib.AsyncExitStack() as stack:
        hall.streams[who.credential] = hall.streams.get(who.credential, 0) + 1
        stack.callback(_leave, hall.streams, who.credential)
        stack.callback(hall.auth.on_revoked(ended))
        stack.callback(await begin(sink))
        watch = asyncio.create_task(_end_with_hub(hall.stopping, sink))
        stack.callback(watch.cancel)
        if not hall.auth.is_live(who):
            return
        async for chunk in sink.chunks():
            yield chunk


async def _end_with_hub(stopping: asyncio.Event, sink: Stream) -> None:
    await stopping.wait()
    sink.end()


def wants_stream(call: Call) -> bool:
    """Return whether a request is for an event stream."""
    accepted = call.request.headers.get("accept", "")
    return call.request.method != "HEAD" and "text/event-stream" in accepted


def check_stream(call: Call) -> None:
    """Return if a request is for an event stream, on a route that has nothing else.

    Raises:
        Unsupported: it is not.
    """
    if not wants_stream(call):
        raise Unsupported("this is an event stream: ask with `Accept: text/event-stream`")


def last_event(call: Call, after: T) -> int | T:
    """Return the sequence that a reader has: what `Last-Event-ID` says, or what it asked for.

    Raises:
        InvalidInput: that is no sequence.
    """
    text = call.request.headers.get("last-event-id")
    if not text:
        return after
    seen = whole(text)
    if seen is None:
        raise InvalidInput("Last-Event-ID", "it is the id of an event of this stream")
    return seen


def _leave(streams: dict[str, int], credential: str) -> None:
    streams[credential] -= 1
    if not streams[credential]:
        del streams[credential]
