"""Bytes to frames and back (msgspec JSON). The only place that decodes what a peer sent."""

from typing import Final, TypeVar

import msgspec

from agentcom.model import errors, limits
from agentcom.protocol.frames import Frame, FromHub, FromPeer

T = TypeVar("T")

_FROM_PEER: Final[msgspec.json.Decoder[FromPeer]] = msgspec.json.Decoder(FromPeer)
_FROM_HUB: Final[msgspec.json.Decoder[FromHub]] = msgspec.json.Decoder(FromHub)
_ENCODER: Final = msgspec.json.Encoder()


def encode(frame: Frame) -> bytes:
    """Return `frame` as the bytes of one text message."""
    return _ENCODER.encode(frame)


def decode_from_peer(data: bytes) -> FromPeer:
    """Return the frame that a machine or client sent.

    Raises:
        TooLarge: over the frame limit.
        MalformedInput: not JSON, not UTF-8, or nested too deeply.
        Unsupported: a type this version does not know.
        InvalidInput: a field is missing or has a value that is not allowed.
    """
    return _decode(_FROM_PEER, data)


def decode_from_hub(data: bytes) -> FromHub:
    """Return the frame that the hub sent; raises like `decode_from_peer`."""
    return _decode(_FROM_HUB, data)


def _decode(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    if len(data) > limits.FRAME_BYTES:
        raise errors.TooLarge(f"a frame may have {limits.FRAME_BYTES} bytes")
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        text = str(error)
        if "Invalid value" in text and text.endswith("$.type`"):
            raise errors.Unsupported("this hub does not know that type of frame") from None
        rule, _, place = text.partition(" - at `")
        missing = rule.partition("field `")[2]
        raise errors.InvalidInput((place or missing).rstrip("`") or "$", rule) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise errors.MalformedInput("a frame must be one JSON object in UTF-8") from None
