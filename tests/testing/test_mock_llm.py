import json
from collections.abc import Iterator
from typing import Any

import pytest

from agentcom.testing.mock_llm import answers
from agentcom.testing.mock_llm.answers import Outcome
from agentcom.testing.mock_llm.http import HttpRequest
from tests.testing.mock_requests import BASH, EDIT, PATHS, body_of, said_and_called


def post(path: str, body: object) -> Outcome:
    raw = json.dumps(body).encode()
    return answers.answer(HttpRequest(method="POST", path=path, headers={}, body=raw))


def parsed(path: str, body: object) -> Any:
    return json.loads(post(path, body).body)


def sse(outcome: Outcome) -> Iterator[Any]:
    for event in outcome.events or ():
        yield event.data if event.data == "[DONE]" else json.loads(event.data)


@pytest.mark.parametrize("dialect", PATHS)
def test_each_dialect_plays_the_steps_of_the_prompt(dialect: str) -> None:
    turns = [
        said_and_called(dialect, parsed(PATHS[dialect], body_of(dialect, EDIT, calls)))
        for calls in (0, 1, 2, 3)
    ]

    shell = {"command": "echo 'two words'", "security_risk": "LOW", "timeout": 600_000}
    assert turns[0] == ("First.", {"file_path": "a/b.txt", "content": "x\n"})
    assert turns[1] == ("", shell)
    assert turns[2] == turns[3] == ("Last.", None)


@pytest.mark.parametrize("dialect", PATHS)
def test_a_request_without_tools_is_no_step_but_meets_faults(dialect: str) -> None:
    text, call = said_and_called(
        dialect, parsed(PATHS[dialect], body_of(dialect, EDIT, tools=False))
    )

    assert (text, call) == ("Mock title", None)
    assert post(PATHS[dialect], body_of(dialect, "<<mock:auth>>", tools=False)).entry.status == 401


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("auth", 401),
        ("quota", 429),
        ("rate-limit", 429),
        ("model-down", 500),
        ("context-full", 400),
    ],
)
def test_faults_are_worded_by_the_dialect(dialect: str, name: str, status: int) -> None:
    outcome = post(PATHS[dialect], body_of(dialect, f"<<mock:{name}>>"))

    assert outcome.entry.status == status
    assert json.loads(outcome.body)["error"]["message"]


def test_a_stream_of_chat_spells_the_same_answer() -> None:
    chunks = list(sse(post(PATHS["chat"], {**body_of("chat", EDIT), "stream": True})))

    deltas = [c["choices"][0]["delta"] for c in chunks[:-1] if c["choices"]]
    arguments = "".join(
        call["function"]["arguments"] for delta in deltas for call in delta.get("tool_calls", ())
    )
    assert "".join(delta.get("content") or "" for delta in deltas) == "First."
    assert json.loads(arguments)["content"] == "x\n"
    assert chunks[-2]["usage"]["completion_tokens"] > 0
    assert chunks[-1] == "[DONE]"


def test_a_stream_of_responses_spells_the_same_answer() -> None:
    events = list(sse(post(PATHS["responses"], {**body_of("responses", EDIT), "stream": True})))

    assert (events[0]["type"], events[-1]["type"]) == ("response.created", "response.completed")
    whole = said_and_called("responses", events[-1]["response"])
    assert whole == ("First.", {"file_path": "a/b.txt", "content": "x\n"})
    text = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    assert text == "First."


def test_a_stream_of_messages_spells_the_same_answer() -> None:
    events = list(sse(post(PATHS["messages"], {**body_of("messages", EDIT), "stream": True})))

    deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == "First."
    assert (
        json.loads("".join(delta.get("partial_json", "") for delta in deltas))["content"] == "x\n"
    )
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


def test_a_stream_of_gemini_spells_the_same_answer() -> None:
    path = PATHS["generate"].replace(":generate", ":streamGenerate")
    chunks = list(sse(post(path, body_of("generate", EDIT))))

    parts = [part for c in chunks for part in c["candidates"][0]["content"]["parts"]]
    assert "".join(part.get("text", "") for part in parts) == "First."
    assert parts[-1]["functionCall"]["args"]["content"] == "x\n"


def test_the_newest_marker_starts_the_count_anew() -> None:
    body = body_of("chat", EDIT, 3)
    body["messages"].append({"role": "user", "content": "<<mock:shell>>"})

    _, call = said_and_called("chat", parsed(PATHS["chat"], body))

    assert call["command"] == "git status --short"


def test_a_model_id_may_name_the_scenario() -> None:
    body = {**body_of("chat", "hello"), "model": "mock-say"}

    assert said_and_called("chat", parsed(PATHS["chat"], body)) == ("Nothing to change.", None)


def test_a_task_file_is_read_first_and_its_steps_are_counted_from_there() -> None:
    body = body_of("chat", "Read the task file `/x/my task.md` and do what it says.")
    first = said_and_called("chat", parsed(PATHS["chat"], body))
    body["messages"] += [
        {"role": "assistant", "tool_calls": [{"function": {"name": "Bash"}}]},
        {"role": "tool", "content": EDIT},
    ]
    second = said_and_called("chat", parsed(PATHS["chat"], body))

    assert first[1]["command"] == "cat -- '/x/my task.md'"
    assert second == ("First.", {"file_path": "a/b.txt", "content": "x\n"})


def test_a_command_in_the_background_is_waited_for_without_counting() -> None:
    wait = {"name": "write_stdin", "parameters": {"required": ["session_id"]}}
    body = body_of("responses", EDIT, 1)
    body["tools"].append({"type": "function", **wait})
    running = {"type": "function_call_output", "output": "Process running with session ID 7\n"}
    body["input"].append(running)
    waiting = said_and_called("responses", parsed(PATHS["responses"], body))
    body["input"] += [{"type": "function_call", "name": "write_stdin"}, {"output": "done"}]
    after = said_and_called("responses", parsed(PATHS["responses"], body))

    assert waiting[1]["session_id"] == 7
    assert after[1]["command"] == "echo 'two words'"


def test_custom_namespaced_and_local_tools_are_called_in_their_own_form() -> None:
    patch = {"type": "custom", "name": "apply_patch"}
    inner = {"type": "namespace", "name": "box", "tools": [{"type": "function", **BASH}]}
    first = {**body_of("responses", EDIT), "tools": [patch, inner]}
    second = {**body_of("responses", EDIT, 1), "tools": [inner]}
    local = {**body_of("responses", EDIT, 1), "tools": [{"type": "local_shell"}]}

    patched = parsed(PATHS["responses"], first)["output"][-1]
    called = parsed(PATHS["responses"], second)["output"][-1]
    shelled = parsed(PATHS["responses"], local)["output"][-1]

    assert patched["type"] == "custom_tool_call"
    assert "*** Add File: a/b.txt\n+x\n" in patched["input"]
    assert (called["namespace"], called["name"]) == ("box", "Bash")
    assert shelled["action"]["command"] == ["bash", "-lc", "echo 'two words'"]


def test_without_a_fitting_tool_the_model_says_so() -> None:
    body = {**body_of("chat", EDIT), "tools": [{"function": {"name": "paint"}}]}

    assert "no tool fits" in said_and_called("chat", parsed(PATHS["chat"], body))[0]


def test_a_malformed_script_is_answered_readably() -> None:
    prompt = '<<mock:edit>>\n```steps\n{"dance": 1}\n```'

    assert (
        "mock: step 1" in said_and_called("chat", parsed(PATHS["chat"], body_of("chat", prompt)))[0]
    )


def test_the_same_request_gets_the_same_answer() -> None:
    body = body_of("messages", EDIT, 1)

    assert post(PATHS["messages"], body) == post(PATHS["messages"], body)


@pytest.mark.parametrize("body", [{"messages": 3}, {"messages": [3]}, {"tools": {}}, {"input": 1}])
@pytest.mark.parametrize("path", PATHS.values())
def test_odd_bodies_are_answered(path: str, body: object) -> None:
    assert post(path, body).entry.status == 200


def test_tokens_are_counted() -> None:
    assert parsed("/v1/messages/count_tokens", {"a": "b" * 400})["input_tokens"] > 100
    assert parsed("/v1beta/models/m:countTokens", {"a": "b" * 400})["totalTokens"] > 100
