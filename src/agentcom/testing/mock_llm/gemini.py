"""The generateContent dialect of Gemini."""

from collections.abc import Iterator

import msgspec

from agentcom.testing.mock_llm.conversation import (
    Called,
    Event,
    Item,
    Json,
    Reply,
    Request,
    Returned,
    Said,
    Tool,
    event,
    pieces,
    plain_text,
    rows,
)


def read(body: Json, *, model: str, stream: bool, input_tokens: int, nonce: str) -> Request:
    """Return what `body` asks; the path names the model and whether the answer is a stream."""
    return Request(
        dialect="generate",
        model=model,
        stream=stream,
        items=[item for row in rows(body.get("contents")) for item in _items(row)],
        tools=[
            Tool(name=str(declared.get("name", "")), schema=_schema(declared))
            for row in rows(body.get("tools"))
            for declared in rows(row.get("functionDeclarations"))
        ],
        input_tokens=input_tokens,
        nonce=nonce,
    )


def body(request: Request, reply: Reply) -> Json:
    """Return the whole answer."""
    parts: list[Json] = [{"text": reply.text}] if reply.text else []
    if reply.call is not None:
        call = {"name": reply.call.tool.name, "args": reply.call.arguments}
        parts.append({"functionCall": call})
    return _chunk(request, reply, parts, last=True)


def events(request: Request, reply: Reply) -> Iterator[Event]:
    """Yield the answer as a stream."""
    for part in pieces(reply.text):
        yield _escaped(event("", _chunk(request, reply, [{"text": part}], last=False)))
    ending = body(request, msgspec.structs.replace(reply, text=""))
    yield _escaped(event("", {**ending, "usageMetadata": _usage(request, reply)}))


def _escaped(sent: Event) -> Event:
    # Protocol Buffers write these two as escapes, and Gemini's own client takes them for line ends.
    data = sent.data.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return msgspec.structs.replace(sent, data=data)


def _items(row: Json) -> Iterator[Item]:
    for part in rows(row.get("parts")):
        if isinstance(part.get("functionCall"), dict):
            yield Called(str(part["functionCall"].get("name", "")))
        elif isinstance(part.get("functionResponse"), dict):
            answered = part["functionResponse"].get("response") or {}
            yield Returned("\n".join(str(value) for value in answered.values()))
        elif row.get("role", "user") == "user":
            yield Said(plain_text(part.get("text", "")))


def _schema(declared: Json) -> Json:
    return declared.get("parametersJsonSchema") or declared.get("parameters") or {}


def _chunk(request: Request, reply: Reply, parts: list[Json], *, last: bool) -> Json:
    candidate: dict[str, object] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if last:
        candidate["finishReason"] = "SAFETY" if reply.refusal else "STOP"
    return {
        "candidates": [candidate],
        "usageMetadata": _usage(request, reply),
        "modelVersion": request.model,
        "responseId": request.nonce,
    }


def _usage(request: Request, reply: Reply) -> Json:
    return {
        "promptTokenCount": request.input_tokens,
        "candidatesTokenCount": reply.output_tokens,
        "totalTokenCount": request.input_tokens + reply.output_tokens,
    }
