"""What every driver of an agent's program promises, whatever the program prints."""

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.cli import enrol
from agentcom.model import errors
from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime.base import Access, Exit, Failed, Job, Raw, Runtime, Stop
from agentcom.sidecar.runtime.openhands import OpenHands

DONE = Exit(code=0)
JOB = Job(
    task="t1",
    attempt="1",
    prompt="Fix the bug.",
    task_file="/state/task.md",
    worktree="/tree",
    home="/state/home",
    settings={"base_url": "http://127.0.0.1:1", "model": 'odd "name"', "api_key_env": "MY_KEY"},
    environment={"PATH": "/bin", "MY_KEY": "the-secret-key"},
    access=Access("http://127.0.0.1:7/mcp", "the-token", "/state/hub.token", tools=True),
)
DRIVERS = [
    runtime
    for name, runtime in sorted(enrol.runtimes().items())
    if name not in enrol.NO_CLI and name != "acp"
]
each = pytest.mark.parametrize("driver", DRIVERS, ids=lambda one: one.name)
HOSTILE = (
    b"\x00\xff\xfe{",
    b'{"type": "item.started"',
    b'{"type": ["session"], "ok": {}}',
    b'{"type": "message_end", "message": 3, "ok": "yes", "kind": {}}',
    b'{"ok": false, "error": [], "usage": 7, "final": {}}',
    b'{"kind": "MessageEvent", "source": "agent", "llm_message": []}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"type": "x"}' + b" " * (9 << 20),
    '{"type": "later", "text": "a\u2028b"}'.encode(),
    b"}",
)


@each
def test_hostile_lines_never_raise_and_never_succeed(driver: Runtime) -> None:
    parser = driver.parser()

    events = [event for line in HOSTILE for event in parser.feed(line)]

    assert all(len(event.line) <= 2_000 for event in events if isinstance(event, Raw))
    assert parser.finish(DONE).failure is not None


@each
@given(lines=st.lists(st.binary(max_size=200), max_size=5))
def test_no_bytes_raise(driver: Runtime, lines: list[bytes]) -> None:
    parser = driver.parser()
    for line in lines:
        parser.feed(line)
    parser.finish(DONE)


@each
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
def test_without_a_word_nothing_is_a_success(
    driver: Runtime, ended: Exit, failure: FailureClass
) -> None:
    assert driver.parser().finish(ended).failure is failure


@each
def test_neither_key_nor_token_is_in_a_command_line_or_a_file(driver: Runtime) -> None:
    launch = driver.launch(JOB)

    written = " ".join([*launch.argv, *(file.text for file in launch.files)])
    assert "the-secret-key" not in written
    assert "the-token" not in written
    assert "the-secret-key" in launch.environment.values()
    assert launch.environment["AGENTCOM_MCP_TOKEN"] == "the-token"


@each
def test_the_environment_is_built_from_nothing(
    driver: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SIDECAR", "x")

    environment = driver.launch(JOB).environment

    assert "SECRET_OF_THE_SIDECAR" not in environment
    assert environment["HOME"] == "/state/home"
    assert environment["CI"] == "1"


@each
def test_with_the_operators_login_no_file_is_written(driver: Runtime) -> None:
    job = msgspec.structs.replace(JOB, settings={"home": "/home/ada"})

    launch = driver.launch(job)

    assert not launch.files
    assert launch.environment["HOME"] == "/home/ada"


@each
@pytest.mark.parametrize("prompt", ["-rf", "x" * 20_000, "a\0b"])
def test_a_prompt_that_is_no_good_argument_is_none(driver: Runtime, prompt: str) -> None:
    launch = driver.launch(msgspec.structs.replace(JOB, prompt=prompt))

    assert prompt not in launch.argv


@each
def test_a_base_url_must_be_a_url(driver: Runtime) -> None:
    settings = {"base_url": "file:///etc/passwd"}

    with pytest.raises(errors.InvalidInput):
        driver.launch(msgspec.structs.replace(JOB, settings=settings))


@each
def test_preflight_names_the_fix(
    driver: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_TOKEN"))]:
        monkeypatch.delenv(name)
    binary = tmp_path / driver.name
    binary.write_text("#!/bin/sh\necho version 9.8.7\n")
    binary.chmod(0o755)
    settings = {"binary": str(binary), "home": str(tmp_path)}

    missing = driver.preflight({"binary": str(tmp_path / "absent")})
    logged_out = driver.preflight(settings)
    monkeypatch.setenv("MY_KEY", "k")
    own = driver.preflight({**settings, "base_url": "http://127.0.0.1:1", "api_key_env": "MY_KEY"})

    assert "install" in missing.fix
    assert (logged_out.ready, logged_out.problem) == (False, "not logged in")
    assert logged_out.fix
    assert (own.ready, own.version) == (True, "9.8.7")


def test_a_version_is_what_was_asked_for_and_not_what_was_logged(tmp_path: Path) -> None:
    binary = tmp_path / "openhands"
    binary.write_text(
        "#!/bin/sh\necho 'SDK v1.21.0' >&2\n"
        "[ -n \"$OPENHANDS_SUPPRESS_BANNER\" ] && echo 'OpenHands CLI 1.16.0'\n"
    )
    binary.chmod(0o755)

    found = OpenHands().preflight({"binary": str(binary), "base_url": "http://127.0.0.1:1"})

    assert found.version == "1.16.0"


@each
def test_a_failure_is_told_once(driver: Runtime) -> None:
    parser = driver.parser()
    line = b'{"type":"turn.failed","error":{"message":"unauthorized"},"ok":false}'

    events = parser.feed(line)

    assert sum(isinstance(event, Failed) for event in events) <= 1


def test_openhands_says_its_session_last_and_its_records_in_between() -> None:
    lines = (
        b"Initializing agent...",
        b'{"source": "user", "llm_message": {"content": []}, "kind": "MessageEvent"}',
        b"Agent is working",
        (
            b'{"source": "agent", "action": {"command": "ls"}, "tool_name": "terminal",'
            b' "tool_call_id": "c1", "kind": "ActionEvent"}'
        ),
        b'{"source": "environment", "tool_call_id": "c1", "kind": "ObservationEvent"}',
        (
            b'{"source": "agent", "llm_message": {"role": "assistant", "content":'
            b' [{"type": "text", "text": "Done."}]}, "kind": "MessageEvent"}'
        ),
        "Goodbye! \U0001f44b".encode(),
        b"Conversation ID: 7880fabd863d4d4296a01209831f40d6",
    )
    parser = OpenHands().parser()
    for line in lines:
        parser.feed(line)

    verdict = parser.finish(DONE)
    assert (verdict.failure, verdict.summary) == (None, "Done.")
    assert verdict.session == "7880fabd863d4d4296a01209831f40d6"

    failed = OpenHands().parser()
    failed.feed(b'{"detail": "litellm.AuthenticationError: 401", "kind": "ConversationErrorEvent"}')
    assert failed.finish(DONE).failure is FailureClass.AUTH
