"""The chat-completions dialect."""

from collections.abc import Iterator

import msgspec

from agentcom.testing.mock_llm.conversation import (
    Call,
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
        dialect="chat",
        model=str(body.get("model", "")),
        stream=bool(body.get("stream")),
        items=[item for row in rows(body.get("messages")) for item in _items(row)],
        tools=[
            Tool(name=str(function.get("name", "")), schema=function.get("parameters") or {})
            for function in rows([row.get("function") for row in rows(body.get("tools"))])
        ],
        instructions="\n".join(
            plain_text(row.get("content"))
            for row in rows(body.get("messages"))
            if row.get("role") in {"system", "developer"}
        ),
        input_tokens=input_tokens,
        nonce=nonce,
    )


def body(request: Request, reply: Reply) -> Json:
    """Return the whole answer."""
    message: dict[str, object] = {"role": "assistant", "content": reply.text or None}
    if reply.refusal:
        message["refusal"] = reply.text
    if reply.call is not None:
        message["tool_calls"] = [_tool_call(request, reply.call)]
    choice = {"index": 0, "message": message, "finish_reason": _finish(reply)}
    return {**_head(request, "chat.completion"), "choices": [choice], **_usage(request, reply)}


def events(request: Request, reply: Reply) -> Iterator[Event]:
    """Yield the answer as a stream."""
    yield _chunk(request, {"role": "assistant", "content": ""})
    for part in pieces(reply.text):
        yield _chunk(request, {"refusal" if reply.refusal else "content": part})
    if reply.call is not None:
        whole = _tool_call(request, reply.call)
        opening = {**whole, "index": 0, "function": {"name": reply.call.tool.name, "arguments": ""}}
        yield _chunk(request, {"tool_calls": [opening]})
        for part in pieces(whole["function"]["arguments"]):
            yield _chunk(request, {"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
    yield _chunk(request, {}, _finish(reply))
    head = _head(request, "chat.completion.chunk")
    yield event("", {**head, "choices": [], **_usage(request, reply)})
    yield Event("", "[DONE]")


def _items(row: Json) -> Iterator[Item]:
    match row.get("role"):
        case "user":
            yield Said(plain_text(row.get("content")))
        case "tool":
            yield Returned(plain_text(row.get("content")))
        case "assistant":
            for call in rows(row.get("tool_calls")):
                yield Called(str(call.get("function", {}).get("name", "")))
        case _:
            return


def _chunk(request: Request, delta: Json, finish: str | None = None) -> Event:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event("", {**_head(request, "chat.completion.chunk"), "choices": [choice]})


def _head(request: Request, kind: str) -> Json:
    return {"id": f"chatcmpl-{request.nonce}", "object": kind, "created": 0, "model": request.model}


def _tool_call(request: Request, call: Call) -> Json:
    arguments = msgspec.json.encode(call.arguments).decode()
    function = {"name": call.tool.name, "arguments": arguments}
    return {"id": f"call_{request.nonce}", "type": "function", "function": function}


def _finish(reply: Reply) -> str:
    if reply.refusal:
        return "content_filter"
    return "stop" if reply.call is None else "tool_calls"


def _usage(request: Request, reply: Reply) -> Json:
    spent = {
        "prompt_tokens": request.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": request.input_tokens + reply.output_tokens,
    }
    return {"usage": spent}
