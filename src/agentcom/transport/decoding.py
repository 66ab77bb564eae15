"""From the bytes of a body to a value, with refusals that name the field and never the value."""

import re
from typing import Any, Final

import msgspec

from agentcom.model.errors import InvalidInput, MalformedInput

RULE_CHARS: Final = 200
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_PLACE: Final = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
_FIELD: Final = re.compile(r"field `(.{1,100})`")


def check_text(data: bytes) -> None:
    """Raise `InvalidInput` if some text in a JSON document has a NUL character."""
    if _NUL.search(data):
        raise InvalidInput("$", "NUL characters are not allowed")


def decode(data: bytes, kind: Any) -> Any:
    """Return the value of a type that a JSON document holds.

    Raises:
        MalformedInput: it is no JSON.
        InvalidInput: a field is missing, unknown, or has a value that is not allowed.
    """
    check_text(data)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise MalformedInput("the body must be one JSON value in UTF-8") from None


def encode(value: object) -> bytes:
    """Return the JSON document of a value that another library has decoded.

    Raises:
        MalformedInput: there is none, since it has half of a character or a number without end.
    """
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError, RecursionError):
        raise MalformedInput("the arguments must be JSON in UTF-8") from None


def invalid(error: msgspec.ValidationError) -> InvalidInput:
    """Name the field and the rule."""
    text = str(error)
    place = _PLACE.search(text)
    rule = text[: place.start()] if place else text
    missing = _FIELD.search(rule)
    names = [place[1] if place else "", missing[1] if missing else ""]
    if "Invalid enum value" in rule:
        rule = "it is none of the allowed values"
    return InvalidInput(".".join(name for name in names if name) or "$", rule[:RULE_CHARS])
