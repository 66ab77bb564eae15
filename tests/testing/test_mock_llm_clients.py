"""What the scripted model does for programs that have a way of their own."""

import json
from typing import Any

from agentcom.testing import scenario
from agentcom.testing.mock_llm import answers
from agentcom.testing.mock_llm.http import HttpRequest
from tests.testing.mock_requests import BASH, EDIT, PATHS, body_of, said_and_called

SENDS = scenario.render([scenario.Use("message_send", {"body": "hi"}), scenario.Say("Sent.")])


def answered(body: dict[str, Any]) -> tuple[str, Any]:
    raw = json.dumps(body).encode()
    sent = HttpRequest(method="POST", path=PATHS["chat"], headers={}, body=raw)
    return said_and_called("chat", json.loads(answers.answer(sent).body))


def called(name: str) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": name}}]}


def offering(prompt: str, *tools: dict[str, Any]) -> dict[str, Any]:
    return {
        **body_of("chat", prompt),
        "tools": [{"type": "function", "function": t} for t in tools],
    }


def tool(name: str, *properties: str) -> dict[str, Any]:
    kinds = {key: {"type": "string"} for key in properties}
    return {"name": name, "parameters": {"type": "object", "properties": kinds}}


def test_a_program_without_tools_gets_its_edits_as_blocks() -> None:
    body = body_of("chat", EDIT, tools=False)
    body["messages"].insert(0, {"role": "system", "content": "Use *SEARCH/REPLACE* blocks."})

    text, call = answered(body)

    assert call is None
    assert "a/b.txt\n```\n<<<<<<< SEARCH\n=======\nx\n>>>>>>> REPLACE\n```" in text
    assert text.endswith("Last.")


def test_a_program_that_wants_a_submission_gets_it_at_the_end() -> None:
    prompt = f"{EDIT}\nThen run `echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT`."

    _, call = answered(body_of("chat", prompt, calls=2))

    assert call["command"] == "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


def test_a_tool_behind_a_search_is_looked_for_once_and_then_used() -> None:
    search = tool("tool_search", "query")
    first = offering(SENDS, BASH, search)
    found = {**first, "messages": [*first["messages"], called("tool_search")]}
    found["tools"] = offering(SENDS, BASH, search, tool("mcp__hub__message_send", "body"))["tools"]
    used = {**found, "messages": [*found["messages"], called("mcp__hub__message_send")]}

    assert answered(first)[1] == {"query": "select:mcp__hub__message_send"}
    assert answered(found)[1] == {"body": "hi"}
    assert answered(used) == ("Sent.", None)


def test_a_tool_behind_another_is_called_through_it() -> None:
    both = offering(SENDS, tool("tool_search", "query"), tool("tool_call", "id", "args"))
    found = {**both, "messages": [*both["messages"], called("tool_search")]}

    assert answered(both)[1] == {"query": "message_send"}
    assert answered(found)[1] == {"id": "hub__message_send", "args": {"body": "hi"}}


def test_a_tool_inside_a_program_is_called_by_one() -> None:
    _, call = answered(offering(SENDS, tool("run_typescript", "code")))

    assert 'return await tools.mcp_hub.message_send({"body":"hi"});' in call["code"]
