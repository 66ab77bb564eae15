"""The responses dialect, with its namespaced, custom and local shell tools."""

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
    given = body.get("input")
    items: list[Item] = [Said(given)] if isinstance(given, str) else []
    items += [item for row in rows(given) for item in _items(row)]
    return Request(
        dialect="responses",
        model=str(body.get("model", "")),
        stream=bool(body.get("stream")),
        items=items,
        tools=[tool for row in rows(body.get("tools")) for tool in _tools(row)],
        input_tokens=input_tokens,
        nonce=nonce,
    )


def body(request: Request, reply: Reply) -> Json:
    """Return the whole answer."""
    return _response(request, reply, "completed")


def events(request: Request, reply: Reply) -> Iterator[Event]:
    """Yield the answer as a stream."""
    started = {**_response(request, reply, "in_progress"), "output": []}
    yield _event("response.created", {"response": started})
    yield _event("response.in_progress", {"response": started})
    for index, item in enumerate(_output(request, reply)):
        yield from _item_events(index, item)
    yield _event("response.completed", {"response": _response(request, reply, "completed")})


def _items(row: Json) -> Iterator[Item]:
    kind = str(row.get("type", "message"))
    if kind == "message" and row.get("role") == "user":
        yield Said(plain_text(row.get("content")))
    elif kind.endswith("_call"):
        yield Called(str(row.get("name", kind)))
    elif kind.endswith("_call_output"):
        yield Returned(plain_text(row.get("output")))


def _tools(row: Json, namespace: str = "") -> Iterator[Tool]:
    name = str(row.get("name", ""))
    match row.get("type"):
        case "function":
            yield Tool(name=name, namespace=namespace, schema=row.get("parameters") or {})
        case "custom":
            yield Tool(name=name, namespace=namespace, kind="custom")
        case "local_shell":
            yield Tool(name="local_shell", kind="local_shell")
        case "namespace":
            for inner in rows(row.get("tools")):
                yield from _tools(inner, name)
        case _:
            return  # tools that the provider itself would run


def _item_events(index: int, item: Json) -> Iterator[Event]:
    at = {"output_index": index, "item_id": item["id"]}
    empty: Json
    match item["type"]:
        case "message":
            empty, field, kind = {"content": []}, "", "output_text"
            text = item["content"][0].get("text", "")
        case "function_call":
            empty, field, kind = {"arguments": ""}, "arguments", "function_call_arguments"
            text = item["arguments"]
        case "custom_tool_call":
            empty, field, kind = {"input": ""}, "input", "custom_tool_call_input"
            text = item["input"]
        case _:
            empty, field, kind, text = {}, "", "", ""
    opening = {**item, **empty, "status": "in_progress"}
    yield _event("response.output_item.added", {"output_index": index, "item": opening})
    for part in pieces(text):
        yield _event(f"response.{kind}.delta", {**at, "content_index": 0, "delta": part})
    if field:
        yield _event(f"response.{kind}.done", {**at, field: text})
    yield _event("response.output_item.done", {"output_index": index, "item": item})


def _output(request: Request, reply: Reply) -> list[Json]:
    output: list[Json] = []
    if reply.text:
        kind, key = ("refusal", "refusal") if reply.refusal else ("output_text", "text")
        part = {"type": kind, key: reply.text, "annotations": []}
        message = {"type": "message", "role": "assistant", "content": [part]}
        output.append({"id": f"msg_{request.nonce}", "status": "completed", **message})
    if reply.call is not None:
        output.append(_call(request, reply.call))
    return output


def _call(request: Request, call: Call) -> Json:
    head: dict[str, object] = {"id": f"fc_{request.nonce}", "call_id": f"call_{request.nonce}"}
    head["status"] = "completed"
    if call.tool.namespace:
        head["namespace"] = call.tool.namespace
    match call.tool.kind:
        case "function":
            arguments = msgspec.json.encode(call.arguments).decode()
            named = {"type": "function_call", "name": call.tool.name, "arguments": arguments}
            return {**head, **named}
        case "custom":
            return {
                **head,
                "type": "custom_tool_call",
                "name": call.tool.name,
                "input": call.raw,
            }
        case "local_shell":
            action = {"type": "exec", "env": {}, **call.arguments}
            return {**head, "type": "local_shell_call", "action": action}


def _response(request: Request, reply: Reply, status: str) -> Json:
    return {
        "id": f"resp_{request.nonce}",
        "object": "response",
        "created_at": 0,
        "status": status,
        "model": request.model,
        "output": _output(request, reply),
        "error": None,
        "usage": {
            "input_tokens": request.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": reply.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": request.input_tokens + reply.output_tokens,
        },
    }


def _event(name: str, fields: Json) -> Event:
    return event(name, {"type": name, **fields})
