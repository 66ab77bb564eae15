from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime.base import (
    Access,
    Exit,
    Failed,
    Heard,
    Job,
    Raw,
    Retrying,
    Say,
    SessionStarted,
    Stop,
    Text,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    Usage,
    Warned,
)
from agentcom.sidecar.runtime.claude import Claude
from agentcom.sidecar.runtime.claude_talker import ClaudeTalker
from agentcom.testing import scenario
from tests.sidecar.real_cli import (
    TEST_TIMEOUT_S,
    Bench,
    bench,
    installed,
    recorded,
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
    settings={"base_url": "http://127.0.0.1:1/v1/", "model": "m", "api_key_env": "MY_KEY"},
    environment={"PATH": "/bin", "MY_KEY": "key"},
)
COMMIT = scenario.render(
    [
        scenario.Say("I add the file."),
        scenario.Write("src/hello.txt", "hello\n"),
        scenario.Commit("Add hello"),
        scenario.Say("All done."),
    ]
)
RESULT = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "result": "Done.",
    "usage": {"input_tokens": 1, "cache_read_input_tokens": 5, "output_tokens": 2},
}


def final(**changes: object) -> list[bytes]:
    return [msgspec.json.encode({**RESULT, **changes})]


def judged(lines: list[bytes], ended: Exit = DONE) -> FailureClass | None:
    parser = Claude().parser()
    for line in lines:
        parser.feed(line)
    return parser.finish(ended).failure


def test_a_recorded_edit_is_a_success_with_its_events() -> None:
    events, verdict = replay(Claude(), "claude-edit", DONE)

    kinds = [type(event) for event in events]
    assert kinds[:4] == [SessionStarted, Text, ToolStarted, ToolEnded]
    assert kinds.count(ToolStarted) == kinds.count(ToolEnded) == 3
    assert events[-2:] == [Usage(input=77146, output=53, model="m"), TurnEnded(Stop.END_TURN)]
    assert (verdict.failure, verdict.summary) == (None, "All done.")
    assert verdict.session


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("claude-auth", FailureClass.AUTH),
        ("claude-quota", FailureClass.QUOTA),
        ("claude-rate-limit", FailureClass.RATE_LIMIT),
        ("claude-model-down", FailureClass.MODEL_UNAVAILABLE),
        ("claude-refuse", FailureClass.REFUSED),
        ("claude-context-full", FailureClass.CONTEXT_FULL),
    ],
)
def test_a_recorded_error_keeps_its_class_whatever_the_exit_code(
    name: str, failure: FailureClass
) -> None:
    events, verdict = replay(Claude(), name, DONE)

    assert verdict.failure is failure
    assert [event.failure for event in events if isinstance(event, Failed)] == [failure]


def test_a_retry_and_a_synthetic_error_text_are_no_progress() -> None:
    events, _ = replay(Claude(), "claude-model-down", DONE)

    assert sum(isinstance(event, Retrying) for event in events) == 1
    assert sum(isinstance(event, Warned) for event in events) == 1
    assert not any(isinstance(event, Text | ToolStarted) for event in events)


def test_a_fork_that_hides_an_error_in_the_text_is_found_out() -> None:
    said = "[API Error: 401 Incorrect API key provided.]"

    assert judged(final(result=said)) is FailureClass.AUTH


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"is_error": None}, FailureClass.AGENT),
        ({"subtype": "error_max_turns"}, FailureClass.AGENT),
        ({"is_error": True, "api_error_status": 529}, FailureClass.MODEL_UNAVAILABLE),
        ({"is_error": True, "api_error_status": 403}, FailureClass.AUTH),
        ({"is_error": True, "errors": 7, "result": None}, FailureClass.AGENT),
        ({"usage": {"output_tokens": 0}}, FailureClass.AGENT),
        ({"usage": None}, FailureClass.AGENT),
    ],
)
def test_only_a_clean_final_record_with_tokens_is_a_success(
    changes: dict[str, object], failure: FailureClass
) -> None:
    assert judged(final(**changes)) is failure
    assert judged(final()) is None


def test_an_exhausted_quota_says_when_it_resets() -> None:
    parser = Claude().parser()
    limit = {"status": "rejected", "resetsAt": 1_795_000_000}
    parser.feed(msgspec.json.encode({"type": "rate_limit_event", "rate_limit_info": limit}))
    parser.feed(final(is_error=True, result="You've hit your session limit")[0])
    stated = Claude().parser()
    stated.feed(final(is_error=True, result="usage limit reached|1795000000")[0])

    assert parser.finish(DONE).failure is FailureClass.QUOTA
    assert parser.finish(DONE).resets_at_ms == 1_795_000_000_000
    assert stated.finish(DONE).resets_at_ms == 1_795_000_000_000


def test_the_last_final_record_counts_and_usage_adds_up() -> None:
    parser = Claude().parser()
    for line in final(is_error=True, result="API Error: 500") + final():
        parser.feed(line)

    verdict = parser.finish(DONE)

    assert verdict.failure is None
    assert verdict.usage == Usage(input=12, cached=10, output=4)


def test_a_killed_run_still_says_what_it_spent() -> None:
    parser = Claude().parser()
    for line in recorded("claude-edit")[:-1]:
        parser.feed(line)

    verdict = parser.finish(Exit(code=None, signal=9))

    assert verdict.failure is FailureClass.CRASHED
    assert verdict.usage.input == 77146


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\xff\xfe{",
        b'{"type": "assistant"',
        b'{"type": ["result"]}',
        b'{"type": "assistant", "message": {"content": [1, {"type": {}}], "usage": []}}',
        b'{"type": "user", "message": {"content": "text"}}',
        b'{"type": "system", "subtype": {}, "session_id": 4}',
        b'{"type": "result", "is_error": 0, "errors": {}, "usage": {"input_tokens": -1}}',
        b'{"type": "rate_limit_event", "rate_limit_info": {"status": "rejected"}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type": "x"}' + b" " * (9 << 20),
        '{"type": "later", "text": "a\u2028b"}'.encode(),
    ],
)
def test_a_hostile_line_never_raises_and_never_succeeds(line: bytes) -> None:
    parser = Claude().parser()

    events = parser.feed(line)

    assert all(len(event.line) <= 2_000 for event in events if isinstance(event, Raw))
    assert parser.finish(DONE).failure is not None


@given(st.binary(max_size=300))
def test_no_bytes_raise(line: bytes) -> None:
    assert judged([line]) is not None


def test_the_environment_names_the_model_server_and_calls_nothing_else() -> None:
    launch = Claude(root=True).launch(JOB)

    environment = launch.environment
    assert environment["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:1"
    assert environment["ANTHROPIC_API_KEY"] == "key"
    assert environment["ANTHROPIC_SMALL_FAST_MODEL"] == "m"
    assert environment["DISABLE_TELEMETRY"] == environment["IS_SANDBOX"] == "1"
    assert environment["HOME"] == "/state/home"
    assert "Fix the bug." not in launch.argv
    assert launch.talks


def test_without_a_model_server_the_operators_login_is_used() -> None:
    job = msgspec.structs.replace(JOB, settings={"home": "/home/ada"}, resume="abc")

    launch = Claude(root=False).launch(job)

    assert launch.environment["HOME"] == "/home/ada"
    assert not {"ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "IS_SANDBOX"} & set(launch.environment)
    assert list(launch.argv[-2:]) == ["--resume", "abc"]


def talker() -> ClaudeTalker:
    made = ClaudeTalker()
    made.begin(Claude().launch(JOB).opening)
    return made


def echo(said: Say | None) -> bytes:
    """Return how claude says that it has taken up a word."""
    assert said is not None
    return msgspec.json.encode({**msgspec.json.decode(said.data), "isReplay": True})


def test_a_word_is_heard_when_claude_takes_it_up() -> None:
    claude = talker()
    word = claude.steer("word-1", "mind the printer")

    assert claude.feed(echo(word)) == [Heard("word-1")]
    assert claude.feed(echo(claude.prompt(1, "Fix the bug."))) == []
    claude.feed(final()[0])
    assert claude.steer("word-2", "too late") is None
    assert claude.finish(DONE).failure is None


def test_a_word_that_came_late_begins_a_turn_that_has_to_end() -> None:
    claude = talker()
    word = claude.steer("word-1", "mind the printer")
    claude.feed(final()[0])
    assert claude.farewell() == b""

    claude.feed(echo(word))

    assert claude.farewell()
    assert claude.finish(DONE).failure is FailureClass.CRASHED
    claude.feed(final()[0])
    assert claude.finish(DONE).failure is None


def test_preflight_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    binary = tmp_path / "claude"
    binary.write_text("#!/bin/sh\necho '9.8.7 (Claude Code)'\n")
    binary.chmod(0o755)
    settings = {"binary": str(binary), "home": str(tmp_path)}

    logged_out = Claude().preflight(settings)
    keyless = Claude().preflight({**settings, "base_url": "http://x", "api_key_env": "NO_KEY"})
    (tmp_path / ".claude.json").write_text('{"oauthAccount": {}}')
    logged_in = Claude().preflight(settings)

    assert (logged_out.ready, logged_out.fix) == (False, "claude auth login")
    assert keyless.problem == "NO_KEY is not set"
    assert (logged_in.ready, logged_in.version) == (True, "9.8.7")


def test_the_hubs_tools_are_named_and_their_token_is_not() -> None:
    access = Access("http://127.0.0.1:7/mcp", "the-token", "/state/hub.token", tools=True)

    launch = Claude().launch(msgspec.structs.replace(JOB, access=access))

    given = launch.argv[launch.argv.index("--mcp-config") + 1]
    server = msgspec.json.decode(given)["mcpServers"]["agentcom"]
    assert (server["type"], server["url"]) == ("http", "${AGENTCOM_MCP_URL}")
    assert server["headers"] == {"Authorization": "Bearer ${AGENTCOM_MCP_TOKEN}"}
    assert launch.environment["AGENTCOM_MCP_URL"] == "http://127.0.0.1:7/mcp"
    assert launch.environment["AGENTCOM_MCP_TOKEN"] == "the-token"
    assert "the-token" not in " ".join(launch.argv)
    assert not launch.files


def test_a_hub_without_tools_is_not_named() -> None:
    access = Access("http://127.0.0.1:7/mcp", "the-token", "/state/hub.token")

    argv = Claude().launch(msgspec.structs.replace(JOB, access=access)).argv

    assert "--mcp-config" not in argv


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(Claude(), installed("claude"), tmp_path) as ready:
        yield ready


@pytest.mark.cli
async def test_the_real_claude_edits_commits_and_resumes(real: Bench) -> None:
    _, first = await real.run(COMMIT)
    _, second = await real.run("<<mock:fix>>", resume=first.session)

    assert (first.failure, first.summary) == (None, "All done.")
    assert real.git("show", "HEAD~1:src/hello.txt") == "hello"
    assert (second.failure, second.session) == (None, first.session)
    assert real.git("show", "HEAD:hello.txt") == "hello, fixed"
    assert first.usage.output > 0
