"""Drives OpenAI's codex in its one-shot mode: `codex exec --json`, one JSON record a line.

Measured with 0.169.0. `error` lines and items of the type `error` are not final; the verdict is
`turn.completed` or `turn.failed`. A cancelled run just stops.
"""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import accounts, agent_cli, quota
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.base import (
    Exit,
    Failed,
    File,
    Job,
    Launch,
    Parser,
    Preflight,
    Raw,
    Retrying,
    RuntimeEvent,
    SessionStarted,
    Stop,
    Text,
    Thought,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    Usage,
    Verdict,
    Warned,
)

CAPABILITIES: Final = ("resume", "usage", "progress")

CONFIG: Final = ".codex/config.toml"

KEY_VARIABLE: Final = "OPENAI_API_KEY"
"""Holds the key unless `api_key_env` names another."""

TAIL_LINES: Final = 5
"""Log lines that are kept to explain a crash."""

_SWITCHES: Final[Mapping[str, str]] = {
    "approval_policy": '"never"',
    "sandbox_mode": '"danger-full-access"',
    "check_for_update_on_startup": "false",
    "features.plugins": "false",
    "features.apps": "false",
    "features.remote_plugin": "false",
    "analytics.enabled": "false",
    "feedback.enabled": "false",
}
"""Nobody is there to approve, the sidecar is the sandbox, and nothing but the model is called."""

_SERVER: Final = "mcp_servers.agentcom"

_TOOLS: Final = frozenset(
    {"command_execution", "file_change", "mcp_tool_call", "web_search", "collab_tool_call"}
)


class Codex:
    """The runtime `codex`.

    Settings: `binary`, `model`, `base_url` and `api_key_env` for a model server of one's own;
    without `base_url` the login in the operator's `home` is used, and no file is written there.
    """

    name = "codex"
    reports_progress = True
    uses_mcp = True
    takes_turns = True
    usage_spans_session = True
    """In a resumed session the usage that codex states includes the earlier runs."""

    def takes_prompts(self, settings: Mapping[str, str]) -> bool:  # noqa: ARG002 - the contract
        return True

    def preflight(self, settings: Mapping[str, str]) -> Preflight:
        """Return whether codex answers and has a login or key; nothing is sent anywhere."""
        binary = settings.get("binary", "codex")
        version = agent_cli.probe(binary)
        if version.problem:
            fix = "npm install -g @openai/codex, or set the agent's `binary`"
            return _not_ready(version.text, version.problem, fix)
        if "base_url" in settings:
            key = settings.get("api_key_env")
            if key is not None and not os.environ.get(key):
                return _not_ready(version.text, f"{key} is not set", f"export {key}=...")
        elif not _logged_in(settings):
            return _not_ready(version.text, "not logged in", "codex login")
        account = accounts.find(self.name, settings, os.environ)
        return agent_cli.ready(self.name, version.text, CAPABILITIES, account)

    def launch(self, job: Job) -> Launch:
        """Return the call of `codex exec`, and its configuration when it has a home of its own.

        Raises:
            InvalidInput: `base_url` is no URL.
        """
        own = "base_url" in job.settings
        home = job.home if own else job.settings.get("home", job.home)
        environment = agent_cli.environment(job, home=home)
        if own:
            environment["CODEX_HOME"] = str(Path(home, CONFIG).parent)
            # codex wants the variable to exist, also for a server that asks for no key.
            environment.setdefault(_key_variable(job.settings), "none")
        return Launch(
            argv=_argv(job, own=own),
            environment=environment,
            cwd=job.worktree,
            files=[File(CONFIG, config(job.settings))] if own else [],
        )

    def parser(self) -> Parser:
        """Return a fresh parser for one run."""
        return CodexParser()


def config(settings: Mapping[str, str]) -> str:
    """Return `config.toml` for the model server in `settings`."""
    values = {
        **({"model": _quoted(settings["model"])} if "model" in settings else {}),
        "model_provider": '"agentcom"',
        **_SWITCHES,
        "model_providers.agentcom.name": '"agentcom"',
        "model_providers.agentcom.base_url": _quoted(
            f"{agent_cli.server_root(settings['base_url'])}/v1"
        ),
        "model_providers.agentcom.env_key": _quoted(_key_variable(settings)),
        "model_providers.agentcom.wire_api": '"responses"',
        # The hub retries with backoff, on other machines too: here one retry is enough.
        "model_providers.agentcom.request_max_retries": "1",
        "model_providers.agentcom.stream_max_retries": "1",
    }
    return "".join(f"{key} = {value}\n" for key, value in values.items())


class CodexParser:
    """Reads one run of `codex exec --json`."""

    def __init__(self) -> None:
        self._session: str | None = None
        self._summary = ""
        self._usage = Usage()
        self._failed: Failed | None = None
        self._trouble = ""
        self._completed = False
        self._worked = False
        self._open: set[str] = set()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def feed(self, line: bytes) -> Sequence[RuntimeEvent]:
        """Return the events of one line; never raises, whatever the bytes."""
        record = agent_cli.decode(line)
        if record is None:
            raw = agent_cli.raw_text(line)
            if not raw:
                return []
            self._tail.append(raw)
            return [Raw(raw)]
        return list(self._events(record)) or [Raw(agent_cli.raw_text(line))]

    def finish(self, ended: Exit) -> Verdict:
        """Judge the run by its final record; an exit code alone never makes a success."""
        failure, message = self._judge(ended)
        return Verdict(
            failure=failure,
            message=message,
            summary=self._summary,
            session=self._session,
            usage=self._usage,
            resets_at_ms=quota.epoch_ms(message),
        )

    def _judge(self, ended: Exit) -> tuple[FailureClass | None, str]:
        if self._failed is not None:
            return self._failed.failure, self._failed.message
        if not self._completed:
            if self._trouble and ended.stop is None:
                return agent_cli.classify(self._trouble), self._trouble
            return agent_cli.ended_without_record(ended, list(self._tail))
        if self._usage.output == 0:
            return FailureClass.AGENT, "codex reports success without one token of output"
        if not self._worked:
            return FailureClass.AGENT, "codex ended without a word or a tool call"
        return None, ""

    def _events(self, record: Json) -> Iterator[RuntimeEvent]:
        match record.get("type"):
            case "thread.started":
                self._session = agent_cli.text(record.get("thread_id")) or None
                if self._session is not None:
                    yield SessionStarted(self._session)
            case "turn.started":
                self._completed, self._failed = False, None
            case "item.started" | "item.completed" as kind:
                item = agent_cli.record(record.get("item"))
                yield from self._item(item, ended=kind == "item.completed")
            case "error":
                yield self._error(agent_cli.text(record.get("message")))
            case "turn.completed":
                yield from self._turn_completed(agent_cli.record(record.get("usage")))
            case "turn.failed":
                yield from self._turn_failed(agent_cli.record(record.get("error")))
            case _:
                return

    def _item(self, item: Json, *, ended: bool) -> Iterator[RuntimeEvent]:
        said = agent_cli.text(item.get("text"))
        match item.get("type"):
            case "agent_message" if ended:
                self._summary, self._worked = said, True
                yield Text(said)
            case "reasoning" if ended:
                yield Thought(said)
            case "error" if ended:
                yield Warned(agent_cli.text(item.get("message")))
            case str(kind) if kind in _TOOLS:
                yield from self._tool(item, kind, ended=ended)
            case _:
                return

    def _tool(self, item: Json, kind: str, *, ended: bool) -> Iterator[RuntimeEvent]:
        call = agent_cli.text(item.get("id"))
        if call not in self._open:
            self._open.add(call)
            yield ToolStarted(call, _title(item, kind))
        if ended:
            self._worked = True
            self._open.discard(call)
            yield ToolEnded(call, item.get("status", "completed") == "completed")

    def _error(self, message: str) -> RuntimeEvent:
        if message.startswith("Reconnecting"):
            return Retrying(message)
        self._trouble = message
        return Warned(message)

    def _turn_completed(self, usage: Json) -> Iterator[RuntimeEvent]:
        self._completed = True
        self._usage = Usage(
            input=agent_cli.count(usage.get("input_tokens")),
            cached=agent_cli.count(usage.get("cached_input_tokens")),
            output=agent_cli.count(usage.get("output_tokens")),
        )
        yield self._usage
        yield TurnEnded(Stop.END_TURN)

    def _turn_failed(self, error: Json) -> Iterator[RuntimeEvent]:
        message = agent_cli.text(error.get("message")) or self._trouble or "codex says no reason"
        failure = agent_cli.classify(message)
        self._failed = Failed(failure, message, quota.epoch_ms(message))
        yield self._failed
        yield TurnEnded(Stop.REFUSAL if failure is FailureClass.REFUSED else Stop.ERROR)


def _argv(job: Job, *, own: bool) -> list[str]:
    argv = [job.settings.get("binary", "codex"), "exec"]
    argv += ["resume"] if job.resume else []
    argv += ["--json", "--skip-git-repo-check"]
    if not own:
        argv += [part for key, value in _SWITCHES.items() for part in ("-c", f"{key}={value}")]
        argv += ["-m", job.settings["model"]] if "model" in job.settings else []
    if job.access is not None and job.access.tools:
        argv += ["-c", f"{_SERVER}.url={_quoted(job.access.url)}"]
        argv += ["-c", f'{_SERVER}.bearer_token_env_var="{agent_cli.TOKEN_VARIABLE}"']
        # Else its first turn may be over before it has the tools.
        argv += ["-c", f"{_SERVER}.required=true"]
    argv += [job.resume] if job.resume else []
    return [*argv, agent_cli.prompt_argument(job)]


def _title(item: Json, kind: str) -> str:
    match kind:
        case "command_execution":
            return agent_cli.text(item.get("command"))
        case "file_change":
            changes = agent_cli.records(item.get("changes"))
            return "edit " + ", ".join(agent_cli.text(change.get("path")) for change in changes)
        case "mcp_tool_call":
            return f"{agent_cli.text(item.get('server'))}.{agent_cli.text(item.get('tool'))}"
        case _:
            return agent_cli.text(item.get("query")) or kind


def _key_variable(settings: Mapping[str, str]) -> str:
    return settings.get("api_key_env", KEY_VARIABLE)


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string.
    return msgspec.json.encode(text).decode()


def _logged_in(settings: Mapping[str, str]) -> bool:
    if os.environ.get("CODEX_API_KEY"):
        return True
    home = settings.get("home")
    folder = Path(home, ".codex") if home else None
    login = (folder or Path(os.environ.get("CODEX_HOME") or Path.home() / ".codex")) / "auth.json"
    try:
        return login.stat().st_size > 0
    except OSError:
        return False


def _not_ready(version: str, problem: str, fix: str) -> Preflight:
    return Preflight(runtime=Codex.name, ready=False, version=version, problem=problem, fix=fix)
