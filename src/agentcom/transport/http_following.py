"""Event streams of mailboxes, channels and presence: what is new, as it comes."""

from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from agentcom.hub import speaking
from agentcom.hub.listening import ENDED
from agentcom.model import numerals
from agentcom.model.errors import AgentComError, NotFound
from agentcom.model.policy import Action
from agentcom.protocol import codec
from agentcom.protocol.live import CHANNEL, MAIL, Ended
from agentcom.transport import http_events
from agentcom.transport.http_call import PREFIX, Call, Endpoint, Handler
from agentcom.transport.http_events import Stream


class FollowAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where on to follow."""

    after: Annotated[int, msgspec.Meta(ge=0, le=numerals.MOST)] | None = None
    """By default from the newest letter on."""


async def _mail(call: Call) -> object:
    return await _letters(call, MAIL)


async def _channel(call: Call) -> object:
    return await _letters(call, CHANNEL + call.named())


async def _letters(call: Call, name: str) -> object:
    http_events.check_stream(call)
    listening, who = call.hall.listening, speaking.person(call.who)
    asked = http_events.last_event(call, call.asked(FollowAsked).after)
    after = await listening.check(who, name, asked)

    async def begin(sink: Stream) -> Callable[[], None]:
        def ended() -> None:
            frame = Ended(log=name, code=NotFound.code, message=ENDED)
            sink.tell("ended", codec.encode(frame))
            sink.end()

        try:
            listener = await listening.follow(who, name, sink, after=after, ended=ended)
        except AgentComError:  # since the look before
            ended()
            return lambda: None
        sink.place(after)
        listener.begin()
        return listener.leave

    return http_events.response(call, Stream("letter"), begin)


class WatchAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose presence to follow; several, separated by commas."""

    needs: str = ""
    states: str = ""


async def _presence(call: Call) -> object:
    http_events.check_stream(call)
    asked = call.asked(WatchAsked)
    sink = Stream()
    watcher = call.hall.watch.watch(
        speaking.person(call.who),
        _split(asked.needs),
        _split(asked.states),
        show=lambda payload: sink.tell("presence", payload),
        buffered=lambda: sink.buffered_bytes,
    )

    async def begin(_sink: Stream) -> Callable[[], None]:
        watcher.begin()
        return watcher.leave

    return http_events.response(call, sink, begin)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _endpoint(
    path: str, action: Action, handler: Handler, summary: str, query: type[msgspec.Struct]
) -> Endpoint:
    return Endpoint(
        method="GET",
        path=f"{PREFIX}/{path}/events",
        access=action,
        handler=handler,
        summary=summary,
        query=query,
        reply=None,
        media="text/event-stream",
    )


ENDPOINTS: Final = (
    _endpoint("mail", Action.MESSAGE_READ, _mail, "Follow one's own mailbox", FollowAsked),
    _endpoint("channels/{id}", Action.CHANNEL_READ, _channel, "Follow a channel", FollowAsked),
    _endpoint("presence", Action.AGENT_READ, _presence, "Follow who is there", WatchAsked),
)
