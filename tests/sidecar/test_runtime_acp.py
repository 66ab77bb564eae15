"""The Agent Client Protocol, message by message."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.model.errors import InvalidInput
from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import base
from agentcom.sidecar.runtime.acp import Acp
from agentcom.sidecar.runtime.acp_talker import AcpTalker, Opening
from agentcom.sidecar.runtime.permission import Policy

DONE = base.Exit(code=0)
JOB = base.Job(
    task="t1",
    attempt="1",
    prompt="Fix the bug.",
    task_file="/state/task.json",
    worktree="/tree",
    home="/state/home",
    settings={"command": "some-agent --acp 'two words'"},
    environment={"PATH": "/bin"},
)
CAPABLE = {
    "protocolVersion": 1,
    "agentCapabilities": {"loadSession": True, "mcpCapabilities": {"http": True}},
}
OPTIONS = [
    {"optionId": "a", "kind": "reject_always"},
    {"optionId": "b", "kind": "allow_always"},
    {"optionId": "c", "kind": "reject_once"},
    {"optionId": "d", "kind": "allow_once"},
]


class Line:
    """An agent's end of the talk."""

    def __init__(self, **opening: Any) -> None:
        self.talker = AcpTalker("an agent")
        known = Opening(**{"cwd": "/tree", "prompt": "Fix the bug.", **opening})
        self.talker.begin(msgspec.json.encode(known))
        self.events: list[base.RuntimeEvent] = []

    def heard(self) -> list[Any]:
        return [msgspec.json.decode(said.data) for said in self.talker.drain()]

    def say(self, **body: Any) -> list[base.RuntimeEvent]:
        events = self.talker.feed(msgspec.json.encode({"jsonrpc": "2.0", **body}))
        self.events += events
        return list(events)

    def update(self, kind: str, /, **fields: Any) -> list[base.RuntimeEvent]:
        update = {"sessionUpdate": kind, **fields}
        return self.say(method="session/update", params={"sessionId": "s1", "update": update})

    def text(self, text: str) -> list[base.RuntimeEvent]:
        return self.update("agent_message_chunk", content={"type": "text", "text": text})

    def ready(self) -> None:
        """Come to the first prompt."""
        self.say(id=1, result=CAPABLE)
        self.say(id=3, result={"sessionId": "s1"})
        self.heard()

    def verdict(self, ended: base.Exit = DONE) -> base.Verdict:
        return self.talker.finish(ended)


def test_a_client_offers_neither_files_nor_terminals() -> None:
    (hello,) = Line().heard()

    assert (hello["method"], hello["params"]["protocolVersion"]) == ("initialize", 1)
    offered = hello["params"]["clientCapabilities"]
    assert offered == {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}


def test_a_session_is_opened_with_the_hub_and_then_prompted() -> None:
    line = Line(mcp_url="http://127.0.0.1:7/mcp", mcp_token="secret")
    line.heard()

    line.say(id=1, result=CAPABLE)
    (opened,) = line.heard()
    line.say(id=3, result={"sessionId": "s1"})
    (prompted,) = line.heard()

    assert (opened["method"], opened["params"]["cwd"]) == ("session/new", "/tree")
    (server,) = opened["params"]["mcpServers"]
    assert (server["type"], server["url"]) == ("http", "http://127.0.0.1:7/mcp")
    assert server["headers"] == [{"name": "Authorization", "value": "Bearer secret"}]
    assert prompted["params"] == {
        "sessionId": "s1",
        "prompt": [{"type": "text", "text": "Fix the bug."}],
    }


def test_an_agent_without_http_gets_no_server() -> None:
    line = Line(mcp_url="http://127.0.0.1:7/mcp")
    line.heard()

    line.say(id=1, result={"protocolVersion": 1})

    assert line.heard()[0]["params"]["mcpServers"] == []


@pytest.mark.parametrize(
    ("capabilities", "method"),
    [
        ({"loadSession": True}, "session/load"),
        ({"loadSession": True, "sessionCapabilities": {"resume": {}}}, "session/resume"),
        ({}, "session/new"),
    ],
)
def test_a_session_is_taken_up_as_the_agent_can(capabilities: Any, method: str) -> None:
    line = Line(resume="s0")
    line.heard()

    line.say(id=1, result={"protocolVersion": 1, "agentCapabilities": capabilities})

    assert line.heard()[0]["method"] == method


def test_the_history_of_a_loaded_session_is_no_news() -> None:
    line = Line(resume="s0")
    line.say(id=1, result=CAPABLE)

    old = line.text("Long ago.")
    (begun,) = line.say(id=3, result=None)

    assert old == []
    assert begun == base.SessionStarted("s0")


def test_a_forgotten_session_is_begun_anew() -> None:
    line = Line(resume="s0")
    line.say(id=1, result=CAPABLE)
    line.heard()

    (warned,) = line.say(id=3, error={"code": -32603, "message": "no such session"})
    (opened,) = line.heard()
    line.say(id=4, result={"sessionId": "s1"})

    assert isinstance(warned, base.Warned)
    assert opened["method"] == "session/new"
    assert line.heard()[0]["params"]["sessionId"] == "s1"


def test_a_session_that_cannot_be_resumed_after_all_is_loaded() -> None:
    able = {"loadSession": True, "sessionCapabilities": {"resume": {}}}
    line = Line(resume="s0")
    line.say(id=1, result={"protocolVersion": 1, "agentCapabilities": able})
    line.heard()

    told = line.say(id=3, error={"code": -32601, "message": "Method not found"})
    (loaded,) = line.heard()
    (begun,) = line.say(id=7, result={})

    assert told == []
    assert (loaded["method"], loaded["params"]["sessionId"]) == ("session/load", "s0")
    assert begun == base.SessionStarted("s0")
    assert line.heard()[0]["params"]["sessionId"] == "s0"


def test_a_session_that_can_be_neither_resumed_nor_loaded_is_begun_anew() -> None:
    able = {"loadSession": True, "sessionCapabilities": {"resume": {}}}
    line = Line(resume="s0")
    line.say(id=1, result={"protocolVersion": 1, "agentCapabilities": able})
    line.say(id=3, error={"code": -32601, "message": "Method not found"})
    line.heard()

    line.say(id=7, error={"code": -32603, "message": "no such session"})

    assert line.heard()[0]["method"] == "session/new"


def test_mode_model_and_login_are_asked_for_in_order() -> None:
    line = Line(mode="yolo", model="m", auth_method="key")
    said = line.heard()
    for body in (
        {"id": 1, "result": CAPABLE},
        {"id": 2, "result": {}},
        {"id": 3, "result": {"sessionId": "s1"}},
        {"id": 5, "result": {}},
        {"id": 6, "result": {}},
    ):
        line.say(**body)
        said += line.heard()

    assert [one["method"] for one in said] == [
        "initialize",
        "authenticate",
        "session/new",
        "session/set_mode",
        "session/set_model",
        "session/prompt",
    ]


def test_pieces_of_a_text_are_told_whole() -> None:
    line = Line()
    line.ready()

    first, second = line.text("Hel"), line.text("lo.")
    tool = line.update("tool_call", toolCallId="t", title="Run tests", status="pending")
    line.text("Done.")
    ended = line.say(id=101, result={"stopReason": "end_turn"})

    assert first == second == [base.Streamed()]
    assert tool == [base.Text("Hello."), base.ToolStarted("t", "Run tests")]
    assert ended == [base.Text("Done."), base.TurnEnded(base.Stop.END_TURN)]
    assert (line.verdict().failure, line.verdict().summary) == (None, "Done.")


def test_a_plan_a_diff_and_a_cost_are_events() -> None:
    line = Line()
    line.ready()

    plan = line.update("plan", entries=[{"content": "look", "status": "completed"}])
    line.update("tool_call", toolCallId="t", title="Edit", kind="edit")
    diff = line.update(
        "tool_call_update",
        toolCallId="t",
        status="completed",
        content=[{"type": "diff", "path": "/tree/a.py", "oldText": "", "newText": "x"}],
    )
    cost = line.update("usage_update", used=1, size=2, cost={"amount": 0.5, "currency": "EUR"})

    assert plan == [base.Plan([base.PlanEntry("look", "completed")])]
    assert diff == [base.Diff("/tree/a.py"), base.ToolEnded("t")]
    assert cost == [base.Cost(0.5, "EUR")]


@pytest.mark.parametrize(
    ("given", "spent"),
    [
        ({"usage": {"inputTokens": 9, "outputTokens": 2, "totalTokens": 11}}, base.Usage(9, 0, 2)),
        (
            {
                "usage": {
                    "inputTokens": 1,
                    "cachedReadTokens": 8,
                    "outputTokens": 2,
                    "totalTokens": 11,
                }
            },
            base.Usage(9, 8, 2),
        ),
        (
            {"_meta": {"quota": {"token_count": {"input_tokens": 9, "output_tokens": 2}}}},
            base.Usage(9, 0, 2),
        ),
    ],
)
def test_usage_is_read_however_it_is_told(given: Any, spent: base.Usage) -> None:
    line = Line()
    line.ready()
    line.text("Done.")

    line.say(id=101, result={"stopReason": "end_turn", **given})

    assert line.verdict().usage == spent


@pytest.mark.parametrize(
    ("reason", "failure"),
    [
        ("refusal", FailureClass.REFUSED),
        ("max_tokens", FailureClass.AGENT),
        ("max_turn_requests", FailureClass.AGENT),
        ("something_new", FailureClass.AGENT),
    ],
)
def test_another_end_than_that_of_the_turn_is_a_failure(reason: str, failure: FailureClass) -> None:
    line = Line()
    line.ready()
    line.text("Hm.")

    line.say(id=101, result={"stopReason": reason})

    assert line.verdict().failure is failure


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ({"code": -32000, "message": "Authentication required"}, FailureClass.AUTH),
        (
            {"code": -32603, "message": "Internal error", "data": {"details": "usage limit"}},
            FailureClass.QUOTA,
        ),
        ({"code": -32603, "message": "Internal error", "data": "status 503"}, "model_unavailable"),
        ({"code": -32603}, FailureClass.AGENT),
        ("odd", FailureClass.AGENT),
    ],
)
def test_an_error_keeps_its_class(error: Any, failure: FailureClass) -> None:
    line = Line()
    line.ready()

    events = line.say(id=101, error=error)

    assert line.verdict().failure == failure
    assert events[-1] == base.TurnEnded(base.Stop.ERROR)


def test_a_login_that_is_wanted_ends_the_run_before_its_turn() -> None:
    line = Line()
    line.say(id=1, result=CAPABLE)
    line.heard()

    line.say(id=3, error={"code": -32000, "message": "Authentication required"})

    assert line.heard() == []
    assert line.verdict().failure is FailureClass.AUTH


def test_another_version_of_the_protocol_is_refused() -> None:
    line = Line()
    line.heard()

    line.say(id=1, result={"protocolVersion": 2})

    assert line.heard() == []
    assert "version 2" in line.verdict().message


def test_an_answer_to_nothing_ends_nothing() -> None:
    line = Line()
    line.ready()
    line.text("I begin")

    for number in (99, 102, 99_999, -1):
        assert line.say(id=number, result={"stopReason": "end_turn"}) == []

    assert line.verdict().failure is FailureClass.CRASHED


def test_silence_and_lies_are_no_success() -> None:
    silent, lying, cut = Line(), Line(), Line()
    for line in (silent, lying, cut):
        line.ready()
    lying.text("[API Error: 401 Incorrect API key provided.]")
    cut.text("I begin")
    for line in (silent, lying):
        line.say(id=101, result={"stopReason": "end_turn"})

    assert silent.verdict().failure is FailureClass.AGENT
    assert lying.verdict().failure is FailureClass.AUTH
    assert cut.verdict().failure is FailureClass.CRASHED


def test_a_turn_that_was_broken_off_has_the_reason_for_that() -> None:
    line = Line()
    line.ready()
    line.text("I begin")
    line.say(id=101, result={"stopReason": "cancelled"})

    ended = base.Exit(code=0, stop=base.Stop.DEADLINE)

    assert line.verdict(ended).failure is FailureClass.DEADLINE
    assert line.events[-1] == base.TurnEnded(base.Stop.CANCELLED)


@pytest.mark.parametrize(
    ("policy", "options", "chosen"),
    [
        (Policy.ALLOW, OPTIONS, {"outcome": "selected", "optionId": "d"}),
        (Policy.ALLOW, OPTIONS[:2], {"outcome": "selected", "optionId": "b"}),
        (Policy.ALLOW, OPTIONS[:1], {"outcome": "cancelled"}),
        (Policy.DENY, OPTIONS, {"outcome": "selected", "optionId": "c"}),
        (Policy.DENY, OPTIONS[:1], {"outcome": "selected", "optionId": "a"}),
        (Policy.DENY, OPTIONS[1:2], {"outcome": "cancelled"}),
        (Policy.DENY, "odd", {"outcome": "cancelled"}),
    ],
)
def test_a_permission_is_chosen_by_its_kind(policy: Policy, options: Any, chosen: Any) -> None:
    line = Line(permissions=policy)
    line.ready()

    events = line.say(
        id="q1",
        method="session/request_permission",
        params={"toolCall": {"toolCallId": "t", "title": "Run rm"}, "options": options},
    )

    (answer,) = line.heard()
    assert (answer["id"], answer["result"]["outcome"]) == ("q1", chosen)
    asked, answered = events
    assert asked == base.PermissionAsked("asked-1", "Run rm")
    assert isinstance(answered, base.PermissionAnswered)


def test_an_open_permission_is_answered_once_by_whom_it_waits_for() -> None:
    line = Line(permissions=Policy.ASK)
    line.ready()

    (asked,) = line.say(
        id=0,
        method="session/request_permission",
        params={"toolCall": {"toolCallId": "t", "title": "Run rm"}, "options": OPTIONS},
    )

    assert asked == base.PermissionAsked("asked-1", "Run rm", open=True)
    assert line.heard() == []
    answer = line.talker.permit("asked-1", allow=True)
    assert answer is not None
    assert msgspec.json.decode(answer.data)["result"]["outcome"]["optionId"] == "d"
    assert line.talker.permit("asked-1", allow=True) is None


def test_a_farewell_cancels_the_turn_and_what_it_asks() -> None:
    line = Line(permissions=Policy.ASK)
    assert line.talker.farewell() == b""
    line.ready()
    line.say(id=0, method="session/request_permission", params={"options": OPTIONS})

    cancel, answer = map(msgspec.json.decode, line.talker.farewell().splitlines())
    line.say(id=101, result={"stopReason": "end_turn"})

    assert (cancel["method"], "id" in cancel) == ("session/cancel", False)
    assert answer["result"] == {"outcome": {"outcome": "cancelled"}}
    assert line.talker.farewell() == b""


def test_what_a_client_does_not_do_is_refused() -> None:
    line = Line()
    line.ready()

    line.say(id=5, method="fs/read_text_file", params={"path": "/etc/passwd"})

    (answer,) = line.heard()
    assert (answer["id"], answer["error"]["code"]) == (5, -32601)


def test_whoever_reads_twice_says_the_same() -> None:
    said = []
    for _ in range(2):
        line = Line()
        keys = [one.key for one in line.talker.drain()]
        for body in (
            {"id": 1, "result": CAPABLE},
            {"id": 3, "result": {"sessionId": "s1"}},
            {"id": 5, "method": "terminal/create", "params": {}},
            {"id": "q", "method": "session/request_permission", "params": {"options": OPTIONS}},
        ):
            line.say(**body)
            keys += [one.key for one in line.talker.drain()]
        said.append(keys)

    assert said[0] == said[1]
    assert len(set(said[0])) == 5


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\xff\xfe{",
        b'{"id": {}, "result": 1}',
        b'{"id": 3, "result": []}',
        b'{"id": 101, "result": "x"}',
        b'{"id": true, "error": null}',
        b'{"method": 5, "params": 7}',
        b'{"method": "session/update", "params": {"update": {"sessionUpdate": []}}}',
        b'{"method": "session/update", "params": {"update": {"sessionUpdate": "plan"}}}',
        b'{"id": 1, "method": "session/request_permission", "params": {"options": [3]}}',
        b"[" * 100_000,
    ],
)
def test_a_hostile_line_never_raises(line: bytes) -> None:
    talk = Line()
    talk.ready()

    talk.talker.feed(line)

    assert talk.verdict().failure is not None


@given(st.binary(max_size=300))
def test_no_bytes_raise(line: bytes) -> None:
    talk = Line()
    talk.talker.feed(line)

    assert talk.verdict().failure is not None


def test_a_command_is_split_and_no_shell_runs() -> None:
    launch = Acp().launch(JOB)

    assert launch.argv == ["some-agent", "--acp", "two words"]
    assert launch.talks
    assert b"Fix the bug." in launch.opening
    assert not any("Fix the bug." in part for part in launch.argv)


@pytest.mark.parametrize(
    "settings",
    [{}, {"command": ""}, {"command": "agent 'open"}, {"command": "a", "permissions": "maybe"}],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        Acp().launch(msgspec.structs.replace(JOB, settings=settings))


def test_preflight_names_the_fix() -> None:
    missing = Acp().preflight({"command": "no-such-agent --acp"})
    there = Acp().preflight({"command": "sh -c true"})

    assert (missing.ready, missing.problem) == (False, "no-such-agent is not on PATH")
    assert "command" in Acp().preflight({}).fix
    assert there.ready
