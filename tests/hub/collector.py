"""A collector of traces on loopback: it takes OTLP over HTTP, and reads it by the real schema."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf import json_format  # type: ignore[import-untyped] # it has no stubs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agentcom.testing.listening import listening


class Collector:
    """What it was sent, and what it answers."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[int] = []
        """Statuses of the next answers; then 200."""
        self.silent = False
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.came = asyncio.Event()

    @property
    def spans(self) -> Sequence[Any]:
        """All spans, decoded as the protobuf messages that they stand for."""
        found = []
        for body in self.bodies:
            message = _hex_ids(ExportTraceServiceRequest(), body)
            for resource in message.resource_spans:
                for scope in resource.scope_spans:
                    found += scope.spans
        return found

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                int(line.partition(":")[2])
                for line in head.splitlines()
                if line.lower().startswith("content-length")
            )
            body = await reader.readexactly(length)
            self.heads.append(head)
            if self.silent:
                await asyncio.Event().wait()
            status = self.answers.pop(0) if self.answers else 200
            if status == 200:
                self.bodies.append(body)
            writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\n{{}}".encode())
            await writer.drain()
            self.came.set()


def _hex_ids(message: Any, body: bytes) -> Any:
    """Decode; ids are hexadecimal in OTLP's JSON, where plain protobuf JSON has base64."""
    found = json.loads(body)
    for resource in found["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return json_format.Parse(json.dumps(found), message)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Run a collector on a free port."""
    made = Collector()
    async with listening(made.serve) as door:
        made.url = f"http://127.0.0.1:{door.port}"
        yield made
