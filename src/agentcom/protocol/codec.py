"""Bytes to frames and back (msgspec JSON). The only place that decodes what a peer sent."""

from collections.abc import Callable
from typing import Final

import msgspec

from agentcom.model import errors, limits
from agentcom.protocol.calls import AnyCall, Call
from agentcom.protocol.frames import FromHub, FromPeer
from agentcom.protocol.live import Frame


class _Keyed(msgspec.Struct):
    key: str | None = None


_FROM_PEER: Final[msgspec.json.Decoder[FromPeer]] = msgspec.json.Decoder(FromPeer)
_FROM_HUB: Final[msgspec.json.Decoder[FromHub]] = msgspec.json.Decoder(FromHub)
_CALL: Final[msgspec.json.Decoder[AnyCall]] = msgspec.json.Decoder(AnyCall)
_KEYED: Final[msgspec.json.Decoder[_Keyed]] = msgspec.json.Decoder(_Keyed)
_FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

encode: Final[Callable[[Frame], bytes]] = msgspec.json.Encoder().encode
"""Returns a frame as the bytes of one text message."""


def decode_from_peer(data: bytes) -> FromPeer:
    """Return the frame that a machine or client sent.

    Raises:
        TooLarge: over the frame limit.
        MalformedInput: not JSON, not UTF-8, or nested too deeply.
        Unsupported: a type this version does not know.
        InvalidInput: a field is missing or has a value that is not allowed.
    """
    if len(data) > limits.FRAME_BYTES:
        raise _too_large()
    try:
        return _FROM_PEER.decode(data)
    except _FAULTS as error:
        raise _fault(error) from None


def decode_from_hub(data: bytes) -> FromHub:
    """Return the frame that the hub sent; raises like `decode_from_peer`."""
    if len(data) > limits.FRAME_BYTES:
        raise _too_large()
    try:
        return _FROM_HUB.decode(data)
    except _FAULTS as error:
        raise _fault(error) from None


def decode_call(raw: bytes | msgspec.Raw) -> Call:
    """Return the call in a frame; raises like `decode_from_peer`."""
    try:
        return _CALL.decode(raw)
    except _FAULTS as error:
        raise _fault(error) from None


def key_in(payload: bytes) -> str | None:
    """Return the request key of a frame that is not valid, if it can be found."""
    try:
        key = _KEYED.decode(payload).key
    except _FAULTS:
        return None
    return key if key is not None and len(key) <= limits.REQUEST_KEY_CHARS else None


def _too_large() -> errors.AgentComError:
    return errors.TooLarge(f"a frame may have {limits.FRAME_BYTES} bytes")


def _fault(error: Exception) -> errors.AgentComError:
    """Return what is wrong with a frame that cannot be decoded."""
    if not isinstance(error, msgspec.ValidationError):
        return errors.MalformedInput("a frame must be one JSON object in UTF-8")
    text = str(error)
    if "Invalid value" in text and text.endswith("$.type`"):
        return errors.Unsupported("this hub does not know that type of frame")
    if "Invalid value" in text and text.endswith("$.call`"):
        return errors.Unsupported("this hub does not know that call")
    rule, _, place = text.partition(" - at `")
    missing = rule.partition("field `")[2]
    return errors.InvalidInput((place or missing).rstrip("`") or "$", rule)
