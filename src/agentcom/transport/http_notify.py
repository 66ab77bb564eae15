"""Routes of destinations of notifications, and of people's accounts in chats."""

from typing import Any, Final

from agentcom.hub.chat_links import CODE_MS
from agentcom.hub.limits_guard import Traffic
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.protocol.alerting import (
    ChatCode,
    DestinationAdded,
    DestinationAsked,
    DestinationList,
)
from agentcom.protocol.asked import Nothing
from agentcom.transport.http_call import PREFIX, Call, Endpoint

_DESTINATIONS: Final = f"{PREFIX}/destinations"
_DESTINATION: Final = f"{_DESTINATIONS}/{{id}}"


async def _add(call: Call) -> DestinationAdded:
    row, key = await call.hall.alerting.destinations.add(call.who, call.given(DestinationAsked))
    return DestinationAdded(destination=row, key=key)


async def _list(call: Call) -> DestinationList:
    return DestinationList(destinations=tuple(await call.hall.alerting.destinations.listed()))


async def _remove(call: Call) -> Done:
    await call.hall.alerting.destinations.remove(call.named())
    return Done("removed, with what waited for it")


async def _test(call: Call) -> Done:
    await call.hall.alerting.destinations.test(call.named())
    return Done("a test is on its way: agentcom notify ls says what became of it")


async def _resume(call: Call) -> Done:
    await call.hall.alerting.destinations.resume(call.named())
    return Done("it goes on")


async def _rotate(call: Call) -> DestinationAdded:
    name = call.named()
    key = await call.hall.alerting.destinations.rotate(name)
    return DestinationAdded(destination=call.hall.alerting.notifications.find(name), key=key)


async def _link(call: Call) -> ChatCode:
    code = call.hall.alerting.destinations.code(call.who, call.named())
    return ChatCode(code=code, ms=CODE_MS)


async def _unlink(call: Call) -> Done:
    count = await call.hall.alerting.destinations.unlink(call.named(), call.who.user)
    return Done(f"{count} accounts are linked no more")


def _act(
    verb: str, handler: Any, summary: str, *, access: Action = Action.NOTIFY_MANAGE,
    reply: Any = Done,
) -> Endpoint:  # fmt: skip
    return Endpoint(
        method="POST",
        path=f"{_DESTINATION}/{verb}",
        access=access,
        handler=handler,
        summary=summary,
        body=Nothing,
        body_optional=True,
        reply=reply,
        traffic=Traffic.ADMIN,
    )


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path=_DESTINATIONS,
        access=Action.NOTIFY_MANAGE,
        handler=_add,
        summary="Add a destination of notifications; its secrets are never shown again",
        body=DestinationAsked,
        reply=DestinationAdded,
        status=201,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="GET",
        path=_DESTINATIONS,
        access=Action.NOTIFY_READ,
        handler=_list,
        summary="List destinations, and what waits for each",
        reply=DestinationList,
    ),
    Endpoint(
        method="DELETE",
        path=_DESTINATION,
        access=Action.NOTIFY_MANAGE,
        handler=_remove,
        summary="Remove a destination, with what waits for it",
        reply=Done,
        traffic=Traffic.ADMIN,
    ),
    _act("test", _test, "Send a test to a destination; a parked one goes on"),
    _act("resume", _resume, "Let a parked destination go on"),
    _act(
        "rotate",
        _rotate,
        "Give a webhook a new key; the one before signs, too, until the next one",
        reply=DestinationAdded,
    ),
    _act(
        "link",
        _link,
        "Get a code that links one's own account in a chat",
        access=Action.CHAT_LINK,
        reply=ChatCode,
    ),
    _act("unlink", _unlink, "Unlink one's own accounts in a chat", access=Action.CHAT_LINK),
)
