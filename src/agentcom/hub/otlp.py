"""Spans as OTLP/HTTP in JSON: the encoding that every collector takes on port 4318.

Ids are hexadecimal and times are decimal strings of nanoseconds, as the specification says of JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from agentcom.hub.spans import Span, Value
from agentcom.telemetry.redact import excerpt

PATH: Final = "/v1/traces"
MEDIA_TYPE: Final = "application/json"
TEXT_CHARS: Final = 256  # of one attribute: they are names and classes
_INTERNAL: Final = 1
_OK: Final = 1
_ERROR: Final = 2


def request(spans: Sequence[Span], resource: Mapping[str, str], *, version: str) -> bytes:
    """Return an `ExportTraceServiceRequest` with these spans."""
    scope = {"name": "agentcom", "version": version}
    found = {
        "resource": {"attributes": _attributes(resource)},
        "scopeSpans": [{"scope": scope, "spans": [_span(span) for span in spans]}],
    }
    return msgspec.json.encode({"resourceSpans": [found]})


def _span(span: Span) -> dict[str, Any]:
    status: dict[str, Any] = {"code": _OK}
    if span.failure is not None:
        status = {"code": _ERROR, "message": span.failure}
    found = {
        "traceId": span.trace,
        "spanId": span.id,
        "name": excerpt(span.name, TEXT_CHARS),
        "kind": _INTERNAL,
        "startTimeUnixNano": str(span.start * 1_000_000),
        "endTimeUnixNano": str(span.end * 1_000_000),
        "attributes": _attributes(span.attributes),
        "status": status,
    }
    return found if span.parent is None else {**found, "parentSpanId": span.parent}


def _attributes(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value != ""]


def _value(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"stringValue": excerpt(value, TEXT_CHARS)}
