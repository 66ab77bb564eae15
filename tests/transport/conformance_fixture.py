"""What the public conformance suite of MCP wants to call, mounted beside the hub's own tools.

The suite asks for tools, prompts and resources by name and looks at what they answer; what is
tested is everything around them: the port, the token, the envelope of both eras.
"""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import mcp_types as types
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from pydantic import BaseModel

from agentcom.transport import http_mcp_server

Context = ServerRequestContext[Any, Any]
Answer = BaseModel | dict[str, Any] | None
Handler = Callable[[Context, Any], Awaitable[Answer]]

PNG: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WAV: Final = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
IMAGE: Final = {"type": "image", "data": PNG, "mimeType": "image/png"}
_SECRET: Final = b"only of this test"


def fixture_server() -> Server[Any]:
    """Return the hub's server with the suite's things added to its own."""
    server = http_mcp_server.server()
    for method, (asked, ours) in _MORE.items():
        before = server.get_request_handler(method)
        handler = ours if before is None else _either(before.handler, ours)
        server.add_request_handler(method, asked, _complete_if_no_more(handler))
    return server


def _either(hub: Handler, ours: Handler) -> Handler:
    """Return a handler that asks the hub's for what is not of the suite, and joins lists."""

    async def handle(context: Context, asked: Any) -> Answer:
        found = await ours(context, asked)
        if found is None:
            return await hub(context, asked)
        if isinstance(found, dict):
            return found
        theirs = await hub(context, asked)
        for name in type(found).model_fields:
            both = getattr(found, name)
            if isinstance(both, list):
                return found.model_copy(update={name: [*getattr(theirs, name), *both]})
        return found

    return handle


def _complete_if_no_more(handler: Handler) -> Handler:
    """Return a handler that says that its answer is whole, unless it says otherwise."""

    async def handle(context: Context, asked: Any) -> Answer:
        found = await handler(context, asked)
        return {"resultType": "complete", **found} if isinstance(found, dict) else found

    return handle


# Tools ----------------------------------------------------------------------------------------


def _text(said: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}], **more}


def _resource(uri: str, media: str, text: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": media, "text": text}}


_FIXED: Final[Mapping[str, dict[str, Any]]] = {
    "test_simple_text": _text("This is a simple text response for testing."),
    "test_image_content": {"content": [IMAGE]},
    "test_audio_content": {"content": [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]},
    "test_embedded_resource": {
        "content": [
            _resource(
                "test://embedded-resource", "text/plain", "This is an embedded resource content."
            )
        ]
    },
    "test_multiple_content_types": {
        "content": [
            {"type": "text", "text": "Multiple content types test:"},
            IMAGE,
            _resource(
                "test://mixed-content-resource", "application/json", '{"test":"data","value":123}'
            ),
        ]
    },
    "test_error_handling": _text(
        "This tool intentionally returns an error for testing", isError=True
    ),
}


async def _logging(context: Context, _asked: types.CallToolRequestParams) -> Answer:
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.session.send_log_message("info", said, related_request_id=context.request_id)
        await asyncio.sleep(0)
    return _text("done")


async def _progress(context: Context, _asked: types.CallToolRequestParams) -> Answer:
    for done in (0, 50, 100):
        await context.session.report_progress(done, 100)
        await asyncio.sleep(0)
    return _text("done")


async def _sampling(context: Context, asked: types.CallToolRequestParams) -> Answer:
    prompt = str((asked.arguments or {})["prompt"])
    message = types.SamplingMessage(
        role="user", content=types.TextContent(type="text", text=prompt)
    )
    answer = await context.session.create_message(
        [message], max_tokens=100, related_request_id=context.request_id
    )
    content = answer.content
    assert isinstance(content, types.TextContent)
    return _text(f"LLM response: {content.text}")


def _form(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _choice(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


_TITLED: Final = [{"const": "value1", "title": "First"}, {"const": "value2", "title": "Second"}]
_FORMS: Final[Mapping[str, dict[str, Any]]] = {
    "test_elicitation": _form(username={"type": "string"}, email={"type": "string"}),
    "test_elicitation_sep1034_defaults": _form(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={**_choice("active", "inactive", "pending"), "default": "active"},
        verified={"type": "boolean", "default": True},
    ),
    "test_elicitation_sep1330_enums": _form(
        untitledSingle=_choice("option1", "option2", "option3"),
        titledSingle={"type": "string", "oneOf": _TITLED},
        legacyEnum={**_choice("opt1", "opt2"), "enumNames": ["Option One", "Option Two"]},
        untitledMulti={"type": "array", "items": _choice("option1", "option2")},
        titledMulti={"type": "array", "items": {"anyOf": _TITLED}},
    ),
}


async def _elicit(context: Context, asked: types.CallToolRequestParams) -> Answer:
    message = str((asked.arguments or {}).get("message", "Please tell"))
    answer = await context.session.elicit_form(
        message, _FORMS[asked.name], related_request_id=context.request_id
    )
    return _text(f"Elicitation completed: action={answer.action}, content={answer.content}")


# Tools that need another round ------------------------------------------------------------------


def _ask(message: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": "elicitation/create",
        "params": {"message": message, "requestedSchema": _form(**properties)},
    }


def _sample(text: str, tokens: int) -> dict[str, Any]:
    message = {"role": "user", "content": {"type": "text", "text": text}}
    params = {"messages": [message], "maxTokens": tokens}
    return {"method": "sampling/createMessage", "params": params}


_TEXT: Final = {"type": "string"}
_NAME: Final = {"user_name": _ask("What is your name?", name=_TEXT)}
_ROOTS: Final = {"client_roots": {"method": "roots/list", "params": {}}}
_ROUNDS: Final[Mapping[str, tuple[dict[str, Any], ...]]] = {
    "test_input_required_result_elicitation": (_NAME,),
    "test_input_required_result_sampling": (
        {"capital_question": _sample("What is the capital of France?", 100)},
    ),
    "test_input_required_result_list_roots": (_ROOTS,),
    "test_input_required_result_request_state": (
        {"confirm": _ask("Please confirm", ok={"type": "boolean"})},
    ),
    "test_input_required_result_multiple_inputs": (
        {**_NAME, "greeting": _sample("Generate a greeting", 50), **_ROOTS},
    ),
    "test_input_required_result_multi_round": (
        {"step1": _ask("Step 1: What is your name?", name=_TEXT)},
        {"step2": _ask("Step 2: What is your favorite color?", color=_TEXT)},
    ),
    "test_input_required_result_tampered_state": (
        {"confirm": _ask("Please confirm", ok={"type": "boolean"})},
    ),
    "test_input_required_result_capabilities": (
        {**_NAME, "greeting": _sample("Generate a greeting", 50)},
    ),
}
_STATELESS: Final = frozenset(
    {
        "test_input_required_result_elicitation",
        "test_input_required_result_sampling",
        "test_input_required_result_list_roots",
    }
)
_NEEDED: Final = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}


def _sealed(number: int) -> str:
    return f"{number}.{hmac.new(_SECRET, str(number).encode(), hashlib.sha256).hexdigest()}"


def _opened(state: str | None) -> int:
    """Return the number of the round that a client goes on with."""
    if state is None:
        return 0
    number = state.partition(".")[0]
    if not number.isdigit() or not hmac.compare_digest(state, _sealed(int(number))):
        raise MCPError(types.INVALID_PARAMS, "this state is not of this server")
    return int(number)


async def _rounds(context: Context, asked: types.CallToolRequestParams) -> Answer:
    rounds = _ROUNDS[asked.name]
    number = _opened(asked.request_state)
    given = asked.input_responses or {}
    if number < len(rounds) and given.keys() >= rounds[number].keys():
        number += 1
    if number == len(rounds):
        said = {name: answer.model_dump(mode="json") for name, answer in given.items()}
        return _text(f"state-ok {json.dumps(said)}")
    wanted = _supported(context, rounds[number])
    result: dict[str, Any] = {"resultType": "input_required", "inputRequests": wanted}
    if asked.name not in _STATELESS:
        result["requestState"] = _sealed(number)
    return result


def _supported(context: Context, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return those of the requests that the client has said it can answer."""
    meta = (context.params or {}).get("_meta", {})
    able = meta.get("io.modelcontextprotocol/clientCapabilities", {})
    return {name: one for name, one in wanted.items() if _NEEDED[one["method"]] in able}


async def _missing(_context: Context, _asked: types.CallToolRequestParams) -> Answer:
    data: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
    raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "sampling is needed", data)


_TOOLS: Final[Mapping[str, Handler]] = {
    "test_tool_with_logging": _logging,
    "test_tool_with_progress": _progress,
    "test_sampling": _sampling,
    "test_missing_capability": _missing,
    "test_logging_tool": _logging,
    "test_streaming_elicitation": _progress,
    **dict.fromkeys(_FORMS, _elicit),
    **dict.fromkeys(_ROUNDS, _rounds),
}


async def _list_tools(_context: Context, _asked: Any) -> types.ListToolsResult:
    schema = {"type": "object"}
    return types.ListToolsResult(
        tools=[
            types.Tool(name=name, description="Of the suite", input_schema=schema)
            for name in (*_FIXED, *_TOOLS)
        ]
    )


async def _call_tool(context: Context, asked: types.CallToolRequestParams) -> Answer:
    if asked.name in _TOOLS:
        return await _TOOLS[asked.name](context, asked)
    return _FIXED.get(asked.name)


# Resources ------------------------------------------------------------------------------------

_RESOURCES: Final[Mapping[str, dict[str, str]]] = {
    "test://static-text": {
        "mimeType": "text/plain",
        "text": "This is the content of the static text resource.",
    },
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
    "test://watched-resource": {"mimeType": "text/plain", "text": "watched"},
}


async def _list_resources(_context: Context, _asked: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(
        resources=[
            types.Resource(uri=uri, name=uri, description="Of the suite") for uri in _RESOURCES
        ]
    )


async def _list_templates(_context: Context, _asked: Any) -> types.ListResourceTemplatesResult:
    form = types.ResourceTemplate(uri_template="test://template/{id}/data", name="template")
    return types.ListResourceTemplatesResult(resource_templates=[form])


async def _read(_context: Context, asked: types.ReadResourceRequestParams) -> Answer:
    found = _RESOURCES.get(asked.uri)
    if found is None and asked.uri.startswith("test://template/"):
        name = asked.uri.split("/")[3]
        data: dict[str, object] = {"id": name, "templateTest": True, "data": f"Data for ID: {name}"}
        found = {"mimeType": "application/json", "text": json.dumps(data)}
    if found is None:
        return None
    return {"contents": [{"uri": asked.uri, **found}], "ttlMs": 0, "cacheScope": "private"}


async def _done(_context: Context, _asked: Any) -> Answer:
    return types.EmptyResult()


# Prompts --------------------------------------------------------------------------------------

_ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}


async def _list_prompts(_context: Context, _asked: Any) -> types.ListPromptsResult:
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=name,
                description="Of the suite",
                arguments=[types.PromptArgument(name=one, required=True) for one in arguments],
            )
            for name, arguments in _ARGUMENTS.items()
        ]
    )


def _says(*contents: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content} for content in contents]}


async def _get_prompt(_context: Context, asked: types.GetPromptRequestParams) -> Answer:
    given = asked.arguments or {}
    match asked.name:
        case "test_simple_prompt":
            said = "This is a simple prompt for testing."
        case "test_prompt_with_arguments":
            said = f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"
        case "test_prompt_with_embedded_resource":
            text = "Embedded resource content for testing."
            said = "Please process the embedded resource above."
            first = _resource(given["resourceUri"], "text/plain", text)
            return _says(first, {"type": "text", "text": said})
        case "test_prompt_with_image":
            return _says(IMAGE, {"type": "text", "text": "Please analyze the image above."})
        case "test_input_required_result_prompt" if not asked.input_responses:
            wanted = {"user_context": _ask("What context should the prompt use?", context=_TEXT)}
            return {"resultType": "input_required", "inputRequests": wanted}
        case "test_input_required_result_prompt":
            said = "With context"
        case _:
            return None
    return _says({"type": "text", "text": said})


async def _complete(_context: Context, _asked: types.CompleteRequestParams) -> Answer:
    return {"completion": {"values": [], "total": 0, "hasMore": False}}


_MORE: Final[Mapping[str, tuple[type[BaseModel], Handler]]] = {
    "tools/list": (types.PaginatedRequestParams, _list_tools),
    "tools/call": (types.CallToolRequestParams, _call_tool),
    "resources/list": (types.PaginatedRequestParams, _list_resources),
    "resources/templates/list": (types.PaginatedRequestParams, _list_templates),
    "resources/read": (types.ReadResourceRequestParams, _read),
    "resources/subscribe": (types.SubscribeRequestParams, _done),
    "resources/unsubscribe": (types.UnsubscribeRequestParams, _done),
    "prompts/list": (types.PaginatedRequestParams, _list_prompts),
    "prompts/get": (types.GetPromptRequestParams, _get_prompt),
    "completion/complete": (types.CompleteRequestParams, _complete),
    "logging/setLevel": (types.SetLevelRequestParams, _done),
}
