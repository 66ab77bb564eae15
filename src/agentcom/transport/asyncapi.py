"""The AsyncAPI 3.0 document of the WebSocket, made from the frames that decode and encode.

It is told as the hub sees it: `receive` is what machines and clients send.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args

import msgspec

from agentcom import __version__
from agentcom.protocol import frames

PATH: Final = "/ws"
_REF: Final = "#/components/schemas/{name}"
_CHANNEL: Final = {"$ref": "#/channels/socket"}
_BEARER: Final = {"$ref": "#/components/securitySchemes/bearer"}
_OPERATIONS: Final = (
    ("fromMachine", "receive", "A machine's sidecar reports", frames.FromMachine),
    ("fromClient", "receive", "A person or program asks and follows", frames.FromClient),
    ("fromHub", "send", "The hub answers, pushes and tells", frames.FromHub),
)


def document(*, host: str = "127.0.0.1:7420", version: str = __version__) -> dict[str, Any]:
    """Return the AsyncAPI document of the hub's socket."""
    kinds = list(dict.fromkeys(kind for *_, union in _OPERATIONS for kind in get_args(union)))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    payloads = dict(zip(kinds, schemas, strict=True))
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "AgentCom hub",
            "version": version,
            "description": "JSON text frames of the WebSocket; `type` tells them apart. The first "
            "is `machine` or `hello`. Unknown fields are to be ignored.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {"host": host, "protocol": "ws", "security": [_BEARER]},
            "network": {"host": "hub.example:7420", "protocol": "wss", "security": [_BEARER]},
        },
        "channels": {
            "socket": {
                "address": PATH,
                "messages": {
                    kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"}
                    for kind in kinds
                },
                "bindings": {"ws": {"method": "GET", "headers": _headers()}},
            }
        },
        "operations": dict(_operations()),
        "components": {
            "messages": {kind.__name__: _message(kind, payloads[kind]) for kind in kinds},
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, action, summary, union in _OPERATIONS:
        messages = [
            {"$ref": f"#/channels/socket/messages/{kind.__name__}"} for kind in get_args(union)
        ]
        yield (
            name,
            {"action": action, "channel": _CHANNEL, "summary": summary, "messages": messages},
        )


def _message(kind: Any, payload: Any) -> dict[str, Any]:
    said = (inspect.getdoc(kind) or "").split("\n\n")[0]
    message = {
        "name": kind.__struct_config__.tag,
        "title": kind.__name__,
        "summary": " ".join(said.split()),
        "payload": payload,
    }
    if "key" in _names(kind):
        message["correlationId"] = {"location": "$message.payload#/key"}
    return message


def _names(kind: Any) -> Sequence[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind)]


def _headers() -> dict[str, Any]:
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {
            "Sec-WebSocket-Protocol": {**text, "const": frames.SUBPROTOCOL},
            "Authorization": {**text, "description": "Bearer TOKEN"},
        },
        "required": ["Sec-WebSocket-Protocol", "Authorization"],
    }
