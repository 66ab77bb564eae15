import asyncio
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
    Exit,
    Failed,
    Job,
    Raw,
    Retrying,
    SessionStarted,
    Stop,
    Text,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    Usage,
    Warned,
)
from agentcom.sidecar.runtime.codex import CONFIG, Codex, config
from agentcom.testing import scenario
from tests.sidecar.real_cli import (
    RUN_TIMEOUT_S,
    TEST_TIMEOUT_S,
    Bench,
    bench,
    installed,
    long_command,
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


def test_a_recorded_edit_is_a_success_with_its_events() -> None:
    events, verdict = replay(Codex(), "codex-edit", DONE)

    kinds = [type(event) for event in events]
    assert kinds[:4] == [SessionStarted, Warned, Raw, Text]
    assert kinds.count(ToolStarted) == kinds.count(ToolEnded) == 2
    assert events[-2:] == [Usage(input=30241, output=50), TurnEnded(Stop.END_TURN)]
    assert (verdict.failure, verdict.summary) == (None, "All done.")
    assert verdict.session


def test_a_failed_command_does_not_fail_the_run() -> None:
    events, verdict = replay(Codex(), "codex-failed-command", DONE)

    assert [event.ok for event in events if isinstance(event, ToolEnded)] == [False]
    assert verdict.failure is None


def test_a_file_change_that_shows_only_at_its_end_starts_and_ends() -> None:
    change = {"path": "a.py", "kind": "update"}
    item = {"id": "i", "type": "file_change", "changes": [change], "status": "completed"}

    events = Codex().parser().feed(msgspec.json.encode({"type": "item.completed", "item": item}))

    assert events == [ToolStarted("i", "edit a.py"), ToolEnded("i")]


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
    said = {"type": "agent_message", "id": "i", "text": "Done."}
    parser.feed(msgspec.json.encode({"type": "item.completed", "item": said}))
    usage = {"input_tokens": 10, "output_tokens": output_tokens}
    parser.feed(msgspec.json.encode({"type": "turn.completed", "usage": usage}))

    assert parser.finish(DONE).failure is FailureClass.AGENT


def test_a_usage_limit_is_a_quota() -> None:
    parser = Codex().parser()
    message = "You've hit your usage limit. Upgrade to Pro or try again in 3 days."
    parser.feed(msgspec.json.encode({"type": "turn.failed", "error": {"message": message}}))

    assert parser.finish(Exit(code=1)).failure is FailureClass.QUOTA


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\xff\xfe{",
        b'{"type": "item.started"',
        b'{"type": ["turn.completed"]}',
        b'{"type": "item.completed", "item": 3}',
        b'{"type": "item.completed", "item": {"type": {}, "id": 7}}',
        b'{"type": "turn.completed", "usage": "lots"}',
        b'{"type": "turn.failed", "error": null}',
        b'{"type": "error", "message": {"a": 1}}',
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
    assert launch.argv[-1] == "Fix the bug."


def test_without_a_model_server_the_operators_login_is_used_and_no_file_written() -> None:
    job = msgspec.structs.replace(JOB, settings={"home": "/home/ada", "model": "m"})

    launch = Codex().launch(job)

    assert not launch.files
    assert launch.environment["HOME"] == "/home/ada"
    assert "CODEX_HOME" not in launch.environment
    assert 'approval_policy="never"' in launch.argv


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


def test_a_resumed_session_is_named_before_the_prompt() -> None:
    argv = Codex().launch(msgspec.structs.replace(JOB, resume="abc")).argv

    assert list(argv[1:3]) == ["exec", "resume"]
    assert list(argv[-2:]) == ["abc", "Fix the bug."]


@pytest.mark.parametrize("prompt", ["-rf", "x" * 20_000, "", "a\0b"])
def test_a_prompt_that_is_no_good_argument_goes_by_file(prompt: str) -> None:
    argv = Codex().launch(msgspec.structs.replace(JOB, prompt=prompt)).argv

    assert argv[-1] == "Read the task file `/state/task.md` and do what it says."


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


@pytest.mark.cli
async def test_the_real_codex_follows_a_task_file(real: Bench) -> None:
    _, verdict = await real.run("- a list\n" + COMMIT)

    assert verdict.failure is None
    assert real.git("log", "-1", "--format=%s") == "Add hello"


@pytest.mark.cli
@pytest.mark.parametrize(
    ("name", "failure"),
    [("auth", FailureClass.AUTH), ("model-down", FailureClass.MODEL_UNAVAILABLE)],
)
async def test_the_real_codex_does_not_pass_an_error_off_as_success(
    real: Bench, name: str, failure: FailureClass
) -> None:
    _, verdict = await real.run(f"<<mock:{name}>>")

    assert verdict.failure is failure
    assert len(real.log) <= 6


@pytest.mark.cli
async def test_the_real_codex_before_a_silent_model_shows_no_progress(real: Bench) -> None:
    async with real.start("<<mock:hang>>") as run:
        await real.until(lambda log: any(entry.scenario == "hang" for entry in log))
        alive = run.kill_tree()
    verdict = await run.ended(Stop.NO_PROGRESS)

    assert not alive
    assert not any(isinstance(one, Text | ToolStarted | TurnEnded | Usage) for one in run.events)
    assert verdict.failure is FailureClass.NO_PROGRESS


@pytest.mark.cli
async def test_the_real_codex_is_stopped_inside_a_long_command(real: Bench) -> None:
    with long_command(real.root) as (prompt, runs):
        async with real.start(prompt) as run:
            await run.saw(ToolStarted)
            await asyncio.wait_for(runs.wait(), RUN_TIMEOUT_S)
            alive = run.kill_tree()
    verdict = await run.ended(Stop.CANCELLED)

    assert not alive
    assert verdict.failure is FailureClass.AGENT
