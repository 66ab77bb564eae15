"""Requests in the four dialects, and what their answers say."""

import json
from typing import Any

from agentcom.testing import scenario

EDIT = scenario.render(
    [
        scenario.Say("First."),
        scenario.Write("a/b.txt", "x\n"),
        scenario.Shell(("echo", "two words")),
        scenario.Say("Last."),
    ]
)

BASH = {
    "name": "Bash",
    "parameters": {
        "type": "object",
        "properties": {
            "command": {"type": "string"},
            "security_risk": {"type": "string", "enum": ["LOW", "HIGH"]},
            "timeout": {"type": "number"},
        },
        "required": ["command", "security_risk"],
    },
}
WRITE = {
    "name": "Write",
    "parameters": {
        "type": "object",
        "properties": {"file_path": {"type": "string"}, "content": {"type": "string"}},
        "required": ["file_path", "content"],
    },
}
PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "generate": "/v1beta/models/m:generateContent",
}


def body_of(dialect: str, prompt: str, calls: int = 0, *, tools: bool = True) -> dict[str, Any]:
    """A request with `calls` tool calls made since the prompt."""
    offered = [BASH, WRITE] if tools else []
    match dialect:
        case "chat":
            done = {"role": "assistant", "tool_calls": [{"function": {"name": "Bash"}}]}
            return {
                "model": "m",
                "messages": [{"role": "user", "content": prompt}, *[done] * calls],
                "tools": [{"type": "function", "function": tool} for tool in offered],
            }
        case "responses":
            said = {"type": "message", "role": "user", "content": [{"text": prompt}]}
            return {
                "model": "m",
                "input": [said, *[{"type": "function_call", "name": "Bash"}] * calls],
                "tools": [{"type": "function", **tool} for tool in offered],
            }
        case "messages":
            done = {"role": "assistant", "content": [{"type": "tool_use", "name": "Bash"}]}
            return {
                "model": "m",
                "messages": [{"role": "user", "content": prompt}, *[done] * calls],
                "tools": [{"name": t["name"], "input_schema": t["parameters"]} for t in offered],
            }
        case _:
            done = {"role": "model", "parts": [{"functionCall": {"name": "Bash"}}]}
            return {
                "contents": [{"role": "user", "parts": [{"text": prompt}]}, *[done] * calls],
                "tools": [{"functionDeclarations": offered}],
            }


def said_and_called(dialect: str, body: Any) -> tuple[str, Any]:
    """The text and the tool call's arguments in a whole answer."""
    match dialect:
        case "chat":
            message = body["choices"][0]["message"]
            calls = message.get("tool_calls")
            given = json.loads(calls[0]["function"]["arguments"]) if calls else None
            return message["content"] or "", given
        case "responses":
            texts = [i["content"][0]["text"] for i in body["output"] if i["type"] == "message"]
            calls = [i["arguments"] for i in body["output"] if i["type"] == "function_call"]
            return "".join(texts), json.loads(calls[0]) if calls else None
        case "messages":
            texts = [b["text"] for b in body["content"] if b["type"] == "text"]
            calls = [b["input"] for b in body["content"] if b["type"] == "tool_use"]
            return "".join(texts), calls[0] if calls else None
        case _:
            parts = body["candidates"][0]["content"]["parts"]
            calls = [part["functionCall"]["args"] for part in parts if "functionCall" in part]
            return "".join(part.get("text", "") for part in parts), calls[0] if calls else None
