import tomllib
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.model import errors
from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime.base import (
    Access,
    Diff,
    Exit,
    Failed,
    Job,
    Parser,
    Plan,
    PlanEntry,
    Raw,
    Retrying,
    RuntimeEvent,
    SessionStarted,
    Stop,
    Streamed,
    Talker,
    Text,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    Usage,
)
from agentcom.sidecar.runtime.codex import CONFIG, Codex, config
from agentcom.testing import scenario
from tests.sidecar.real_cli import (
    TEST_TIMEOUT_S,
    Bench,
    bench,
    installed,
    replay,
)

pytestmark = pytest.mark.timeout(TEST_TIMEOUT_S)

DONE = Exit(code=0)
JOB = Job(
    task="t1",
    attempt="1",
    prompt="Fix the bug.",
    task_file="/state/task.md",
    worktree="/tree",
    home="/state/home",
    settings={"base_url": "http://127.0.0.1:1", "model": 'odd "name"'},
    environment={"PATH": "/bin", "OPENAI_API_KEY": "key"},
)
COMMIT = scenario.render(
    [
        scenario.Say("I add the file."),
        scenario.Write("src/hello.txt", "hello\n"),
        scenario.Commit("Add hello"),
        scenario.Say("All done."),
    ]
)


def told(parser: Parser, method: str, **params: object) -> list[RuntimeEvent]:
    return list(parser.feed(msgspec.json.encode({"method": method, "params": params})))


def test_a_recorded_edit_is_a_success_with_its_events() -> None:
    events, verdict = replay(Codex(), "codex-edit", DONE)

    kinds = [type(event) for event in events if not isinstance(event, Streamed)]
    assert kinds[:3] == [SessionStarted, Raw, Text]
    assert kinds.count(ToolStarted) == kinds.count(ToolEnded) == 2
    assert events[-2:] == [
        Usage(input=30238, output=52, model="scripted"),
        TurnEnded(Stop.END_TURN),
    ]
    assert (verdict.failure, verdict.summary) == (None, "All done.")
    assert verdict.session


def test_a_failed_command_does_not_fail_the_run() -> None:
    events, verdict = replay(Codex(), "codex-failed-command", DONE)

    assert [event.ok for event in events if isinstance(event, ToolEnded)] == [False]
    assert verdict.failure is None


def test_a_file_change_that_shows_only_at_its_end_starts_and_ends() -> None:
    change = {"path": "a.py", "kind": {"type": "update"}}
    item = {"id": "i", "type": "fileChange", "changes": [change], "status": "completed"}

    events = told(Codex().parser(), "item/completed", item=item)

    assert events == [ToolStarted("i", "edit a.py"), Diff("a.py"), ToolEnded("i")]


def test_a_plan_is_an_event() -> None:
    plan = [{"step": "look", "status": "inProgress"}]

    events = told(Codex().parser(), "turn/plan/updated", plan=plan)

    assert events == [Plan([PlanEntry("look", "in_progress")])]


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("codex-auth", FailureClass.AUTH),
        ("codex-quota", FailureClass.QUOTA),
        ("codex-rate-limit", FailureClass.RATE_LIMIT),
        ("codex-model-down", FailureClass.MODEL_UNAVAILABLE),
        ("codex-refuse", FailureClass.REFUSED),
        ("codex-context-full", FailureClass.CONTEXT_FULL),
    ],
)
def test_a_recorded_error_keeps_its_class_whatever_the_exit_code(
    name: str, failure: FailureClass
) -> None:
    events, verdict = replay(Codex(), name, DONE)

    assert verdict.failure is failure
    assert [event.failure for event in events if isinstance(event, Failed)] == [failure]


def test_a_reconnect_is_no_progress() -> None:
    events, _ = replay(Codex(), "codex-model-down", DONE)

    assert sum(isinstance(event, Retrying) for event in events) == 1
    assert not any(isinstance(event, Text | ToolStarted) for event in events)


@pytest.mark.parametrize(
    ("ended", "failure"),
    [
        (Exit(code=0), FailureClass.CRASHED),
        (Exit(code=None, signal=9), FailureClass.CRASHED),
        (Exit(code=127), FailureClass.NOT_INSTALLED),
        (Exit(code=None, signal=15, stop=Stop.NO_PROGRESS), FailureClass.NO_PROGRESS),
        (Exit(code=None, signal=15, stop=Stop.DEADLINE), FailureClass.DEADLINE),
        (Exit(code=None, signal=15, stop=Stop.CANCELLED), FailureClass.AGENT),
    ],
)
def test_without_a_final_record_nothing_is_a_success(ended: Exit, failure: FailureClass) -> None:
    _, verdict = replay(Codex(), "codex-hang", ended)

    assert verdict.failure is failure


@pytest.mark.parametrize("output_tokens", [0, None, -3, "many"])
def test_a_success_without_output_tokens_is_a_failure(output_tokens: object) -> None:
    parser = Codex().parser()
    said = {"type": "agentMessage", "id": "i", "text": "Done."}
    told(parser, "item/completed", item=said)
    usage = {"total": {"inputTokens": 10, "outputTokens": output_tokens}}
    told(parser, "thread/tokenUsage/updated", tokenUsage=usage)
    told(parser, "turn/completed", turn={"status": "completed"})

    assert parser.finish(DONE).failure is FailureClass.AGENT


def test_a_usage_limit_is_a_quota() -> None:
    parser = Codex().parser()
    message = "You've hit your usage limit. Upgrade to Pro or try again in 3 days."
    told(parser, "turn/completed", turn={"status": "failed", "error": {"message": message}})

    assert parser.finish(Exit(code=1)).failure is FailureClass.QUOTA


def test_a_turn_that_was_interrupted_has_the_reason_for_that() -> None:
    parser = Codex().parser()

    events = told(parser, "turn/completed", turn={"status": "interrupted"})

    assert events == [TurnEnded(Stop.CANCELLED)]
    deadline = Exit(code=0, stop=Stop.DEADLINE)
    assert parser.finish(deadline).failure is FailureClass.DEADLINE


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\xff\xfe{",
        b'{"method": "item/started"',
        b'{"method": ["turn/completed"]}',
        b'{"method": "item/completed", "params": {"item": 3}}',
        b'{"method": "item/completed", "params": {"item": {"type": {}, "id": 7}}}',
        b'{"method": "turn/completed", "params": {"turn": "done"}}',
        b'{"method": "turn/completed", "params": {"turn": {"status": "failed", "error": null}}}',
        b'{"method": "error", "params": {"error": {"message": {"a": 1}}}}',
        b'{"id": 101, "error": "odd"}',
        b'{"id": {}, "result": []}',
        b'{"id": 3, "result": {"thread": 7}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type": "x"}' + b" " * (9 << 20),
        '{"type": "later", "text": "a\u2028b"}'.encode(),
    ],
)
def test_a_hostile_line_never_raises_and_never_succeeds(line: bytes) -> None:
    parser = Codex().parser()

    events = parser.feed(line)

    assert all(len(event.line) <= 2_000 for event in events if isinstance(event, Raw))
    assert parser.finish(DONE).failure is not None


@given(st.binary(max_size=300))
def test_no_bytes_raise(line: bytes) -> None:
    assert Codex().parser().finish(DONE).failure is FailureClass.CRASHED
    Codex().parser().feed(line)


def test_the_configuration_names_the_model_server_and_calls_nothing_else() -> None:
    launch = Codex().launch(JOB)

    (file,) = launch.files
    read = tomllib.loads(file.text)
    assert file.path == CONFIG
    assert read["model"] == 'odd "name"'
    assert read["model_providers"]["agentcom"]["base_url"] == "http://127.0.0.1:1/v1"
    assert read["model_providers"]["agentcom"]["env_key"] == "OPENAI_API_KEY"
    assert (read["analytics"]["enabled"], read["features"]["plugins"]) == (False, False)
    assert launch.environment["CODEX_HOME"] == "/state/home/.codex"
    assert "Fix the bug." not in launch.argv
    assert launch.talks


def test_without_a_model_server_the_operators_login_is_used_and_no_file_written() -> None:
    job = msgspec.structs.replace(JOB, settings={"home": "/home/ada", "model": "m"})

    launch = Codex().launch(job)

    assert not launch.files
    assert launch.environment["HOME"] == "/home/ada"
    assert "CODEX_HOME" not in launch.environment
    assert 'model="m"' in launch.argv


@pytest.mark.parametrize("settings", [JOB.settings, {"home": "/home/ada"}])
def test_the_hubs_tools_are_named_and_their_token_is_not(settings: dict[str, str]) -> None:
    access = Access("http://127.0.0.1:7/mcp", "the-token", "/state/hub.token", tools=True)

    launch = Codex().launch(msgspec.structs.replace(JOB, access=access, settings=settings))

    options = [value for flag, value in pairwise(launch.argv) if flag == "-c"]
    read = tomllib.loads("\n".join(options))["mcp_servers"]["agentcom"]
    assert read == {
        "url": "http://127.0.0.1:7/mcp",
        "bearer_token_env_var": "AGENTCOM_MCP_TOKEN",
        "required": True,
    }
    assert launch.environment["AGENTCOM_MCP_TOKEN"] == "the-token"
    assert "the-token" not in " ".join([*launch.argv, *(file.text for file in launch.files)])


def test_a_hub_without_tools_is_not_waited_for() -> None:
    access = Access("http://127.0.0.1:7/mcp", "the-token", "/state/hub.token")

    launch = Codex().launch(msgspec.structs.replace(JOB, access=access))

    assert not any("mcp_servers" in part for part in launch.argv)
    assert launch.environment["AGENTCOM_MCP_FILE"] == "/state/hub.token"


def spoken(job: Job, *lines: dict[str, object]) -> list[dict[str, object]]:
    """Return what is said to codex that answers with these lines."""
    talker = Codex().parser()
    assert isinstance(talker, Talker)
    talker.begin(Codex().launch(job).opening)
    said = list(talker.drain())
    for line in lines:
        talker.feed(msgspec.json.encode(line))
        said += talker.drain()
    return [msgspec.json.decode(one.data) for one in said]


HELLO: dict[str, object] = {"id": 1, "result": {"userAgent": "codex"}}
THREAD: dict[str, object] = {"id": 3, "result": {"thread": {"id": "abc"}, "model": "m"}}


def test_a_thread_is_started_and_prompted() -> None:
    said = spoken(JOB, HELLO, THREAD)

    assert [one["method"] for one in said] == [
        "initialize",
        "initialized",
        "thread/start",
        "turn/start",
    ]
    assert said[2]["params"] == {"approvalPolicy": "never", "sandbox": "danger-full-access"}
    assert said[3]["params"] == {
        "threadId": "abc",
        "input": [{"type": "text", "text": "Fix the bug."}],
    }


def test_a_session_is_resumed_or_begun_anew() -> None:
    job = msgspec.structs.replace(JOB, resume="abc")
    gone: dict[str, object] = {"id": 3, "error": {"message": "no rollout found"}}

    said = spoken(job, HELLO, gone)

    assert [one["method"] for one in said[2:]] == ["thread/resume", "thread/start"]


@pytest.mark.parametrize(("policy", "decision"), [("allow", "accept"), ("deny", "decline")])
def test_an_approval_is_given_as_the_agent_is_set(policy: str, decision: str) -> None:
    settings = {**JOB.settings, "permissions": policy}
    asked: dict[str, object] = {
        "id": "q",
        "method": "item/commandExecution/requestApproval",
        "params": {"itemId": "i", "command": "rm -rf build"},
    }
    job = msgspec.structs.replace(JOB, settings=settings)

    *_, answer = spoken(job, HELLO, THREAD, asked)

    assert answer == {"id": "q", "result": {"decision": decision}}


def test_a_base_url_must_be_a_url() -> None:
    with pytest.raises(errors.InvalidInput):
        config({"base_url": "file:///etc/passwd"})


def test_preflight_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CODEX_API_KEY", raising=False)
    binary = tmp_path / "codex"
    binary.write_text("#!/bin/sh\necho codex-cli 9.8.7\n")
    binary.chmod(0o755)
    settings = {"binary": str(binary), "home": str(tmp_path)}

    missing = Codex().preflight({"binary": str(tmp_path / "absent")})
    logged_out = Codex().preflight(settings)
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "auth.json").write_text("{}")
    logged_in = Codex().preflight(settings)

    assert "npm install" in missing.fix
    assert (logged_out.ready, logged_out.fix) == (False, "codex login")
    assert (logged_in.ready, logged_in.version) == (True, "9.8.7")


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(Codex(), installed("codex"), tmp_path) as ready:
        yield ready


@pytest.mark.cli
async def test_the_real_codex_edits_commits_and_resumes(real: Bench) -> None:
    _, first = await real.run(COMMIT)
    _, second = await real.run("<<mock:fix>>", resume=first.session)

    assert (first.failure, first.summary) == (None, "All done.")
    assert real.git("show", "HEAD~1:src/hello.txt") == "hello"
    assert (second.failure, second.session) == (None, first.session)
    assert real.git("show", "HEAD:hello.txt") == "hello, fixed"
    assert first.usage.output > 0
