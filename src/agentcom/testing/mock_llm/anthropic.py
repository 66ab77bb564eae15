"""The messages dialect of Anthropic."""

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


def read(body: Json, *, input_tokens: int, nonce: str) -> Request:
    """Return what `body` asks."""
    return Request(
        dialect="messages",
        model=str(body.get("model", "")),
        stream=bool(body.get("stream")),
        items=[item for row in rows(body.get("messages")) for item in _items(row)],
        tools=[
            Tool(name=str(row.get("name", "")), schema=row["input_schema"])
            for row in rows(body.get("tools"))
            if isinstance(row.get("input_schema"), dict)
        ],
        input_tokens=input_tokens,
        nonce=nonce,
    )


def body(request: Request, reply: Reply) -> Json:
    """Return the whole answer."""
    return {
        **_message(request),
        "content": _blocks(request, reply),
        "stop_reason": _stop(reply),
        "usage": {"input_tokens": request.input_tokens, "output_tokens": reply.output_tokens},
    }


def events(request: Request, reply: Reply) -> Iterator[Event]:
    """Yield the answer as a stream."""
    usage = {"input_tokens": request.input_tokens, "output_tokens": 1}
    opening = {**_message(request), "content": [], "stop_reason": None, "usage": usage}
    yield _event("message_start", {"message": opening})
    for index, block in enumerate(_blocks(request, reply)):
        yield from _block_events(index, block)
    delta = {"stop_reason": _stop(reply), "stop_sequence": None}
    spent = {"output_tokens": reply.output_tokens}
    yield _event("message_delta", {"delta": delta, "usage": spent})
    yield _event("message_stop", {})


def _items(row: Json) -> Iterator[Item]:
    content = row.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for block in rows(content):
        match (row.get("role"), block.get("type")):
            case ("user", "text"):
                yield Said(plain_text(block.get("text")))
            case ("user", "tool_result"):
                yield Returned(plain_text(block.get("content")))
            case ("assistant", "tool_use"):
                yield Called(str(block.get("name", "")))
            case _:
                pass


def _block_events(index: int, block: Json) -> Iterator[Event]:
    empty: Json
    if block["type"] == "text":
        empty, kind, key, text = {"text": ""}, "text_delta", "text", block["text"]
    else:
        empty, kind, key = {"input": {}}, "input_json_delta", "partial_json"
        text = msgspec.json.encode(block["input"]).decode()
    yield _event("content_block_start", {"index": index, "content_block": {**block, **empty}})
    for part in pieces(text):
        yield _event("content_block_delta", {"index": index, "delta": {"type": kind, key: part}})
    yield _event("content_block_stop", {"index": index})


def _blocks(request: Request, reply: Reply) -> list[Json]:
    blocks: list[Json] = []
    if reply.text:
        blocks.append({"type": "text", "text": reply.text})
    if reply.call is not None:
        name, given = reply.call.tool.name, reply.call.arguments
        use = {"type": "tool_use", "id": f"toolu_{request.nonce}", "name": name, "input": given}
        blocks.append(use)
    return blocks


def _message(request: Request) -> Json:
    return {
        "id": f"msg_{request.nonce}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "stop_sequence": None,
    }


def _stop(reply: Reply) -> str:
    if reply.refusal:
        return "refusal"
    return "end_turn" if reply.call is None else "tool_use"


def _event(name: str, fields: Json) -> Event:
    return event(name, {"type": name, **fields})
