"""Routes of files that go with messages: sent whole, known by their content from then on."""

from typing import Annotated, Final

import msgspec
from starlette.responses import Response

from agentcom.hub.blobs import MEDIA_CHARS, NAME_CHARS
from agentcom.hub.limits_guard import Traffic
from agentcom.hub.speaking import Speaker
from agentcom.hub.writing import Asked
from agentcom.model.policy import Action
from agentcom.model.shared_note import Blob
from agentcom.transport import caller
from agentcom.transport.http_call import PREFIX, Call, Endpoint

MEDIA: Final = "application/octet-stream"


class BlobAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a file beside its bytes."""

    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARS)] = ""


async def _put(call: Call) -> object:
    data = await call.request.body()
    media = call.request.headers.get("content-type", MEDIA)[:MEDIA_CHARS]
    name = call.asked(BlobAsked).name
    asked = Asked(cause=call.cause)
    return await call.hall.blobs.put(_who(call), data, name=name, media=media, asked=asked)


async def _get(call: Call) -> Response:
    _, data = await call.hall.blobs.get(_who(call), call.named())
    # Never the type that its sender named: a browser would show it as a page of this hub.
    headers = {
        "cache-control": "private, immutable, max-age=31536000",
        "content-disposition": "attachment",
        "x-content-type-options": "nosniff",
    }
    return Response(data, 200, headers, MEDIA)


def _who(call: Call) -> Speaker:
    return caller.speaker(call.hall.engine.view, call.who, call.request.headers)


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path=f"{PREFIX}/blobs",
        access=Action.NOTE_WRITE,
        handler=_put,
        summary="Send a file, to name it in messages",
        query=BlobAsked,
        reply=Blob,
        traffic=Traffic.TALK,
        cost=10,
    ),
    Endpoint(
        method="GET",
        path=f"{PREFIX}/blobs/{{id}}",
        access=Action.NOTE_READ,
        handler=_get,
        summary="Get a file",
        reply=None,
        traffic=Traffic.TALK,
        media=MEDIA,
    ),
)
