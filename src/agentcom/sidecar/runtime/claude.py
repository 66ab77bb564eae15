"""Drives Claude Code in its print mode: `claude -p --output-format stream-json --verbose`.

Measured with 2.1.197. After an error of the model's provider the record `result` still has the
subtype "success": `is_error`, the HTTP status and the text tell the truth. The same dialect is
spoken by forks that hide an error in the text only ("[API Error: ..."), so that is an error too.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import accounts, agent_cli, quota
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.base import (
    Exit,
    Failed,
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

KEY_VARIABLE: Final = "ANTHROPIC_API_KEY"

TAIL_LINES: Final = 5
"""Log lines that are kept to explain a crash."""

MCP_CONFIG: Final = (
    '{"mcpServers":{"agentcom":{"type":"http","url":"${AGENTCOM_MCP_URL}",'
    '"headers":{"Authorization":"Bearer ${AGENTCOM_MCP_TOKEN}"}}}}'
)
"""Claude itself puts the variables in, so neither its command line nor a file holds the token."""

_NO_MODEL: Final = "<synthetic>"
"""What claude calls the author of messages that it wrote itself."""

_SWITCHES: Final[Mapping[str, str]] = {
    "CLAUDE_CODE_MAX_RETRIES": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    "MCP_CONNECTION_NONBLOCKING": "0",
}
"""Nothing but the model and the hub is called; the hub retries with backoff, so here one retry is
enough. The first turn waits for the hub's tools: else it may be over before they are there."""

_LOGIN_VARIABLES: Final = (KEY_VARIABLE, "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")

_BY_NAME: Final[Mapping[str, FailureClass]] = {
    "authentication_failed": FailureClass.AUTH,
    "oauth_org_not_allowed": FailureClass.AUTH,
    "billing_error": FailureClass.QUOTA,
    "server_error": FailureClass.MODEL_UNAVAILABLE,
    "overloaded": FailureClass.MODEL_UNAVAILABLE,
    "model_not_found": FailureClass.MODEL_UNAVAILABLE,
    "prompt_too_long": FailureClass.CONTEXT_FULL,
}
"""Claude's own names of errors, where they say more than the text."""


class Claude:
    """The runtime `claude`.

    Settings: `binary`, `model`, `small_model`, `base_url` and `api_key_env` for a model server of
    one's own; without `base_url` the login in the operator's `home` is used.
    """

    name = "claude"
    reports_progress = True
    uses_mcp = True
    takes_turns = True
    usage_spans_session = False
    """The usage that claude states is that of the run, also in a resumed session."""

    def __init__(self, *, root: bool | None = None) -> None:
        self._root = os.geteuid() == 0 if root is None else root

    def takes_prompts(self, settings: Mapping[str, str]) -> bool:  # noqa: ARG002 - the contract
        return True

    def preflight(self, settings: Mapping[str, str]) -> Preflight:
        """Return whether claude answers and has a login or key; nothing is sent anywhere."""
        version = agent_cli.probe(settings.get("binary", "claude"))
        if version.problem:
            fix = "npm install -g @anthropic-ai/claude-code, or set the agent's `binary`"
            return _not_ready(version.text, version.problem, fix)
        if "base_url" in settings:
            key = settings.get("api_key_env")
            if key is not None and not os.environ.get(key):
                return _not_ready(version.text, f"{key} is not set", f"export {key}=...")
        elif not _logged_in(settings):
            return _not_ready(version.text, "not logged in", "claude auth login")
        account = accounts.find(self.name, settings, os.environ)
        return agent_cli.ready(self.name, version.text, CAPABILITIES, account)

    def launch(self, job: Job) -> Launch:
        """Return the call of `claude -p`; its configuration is all in the environment.

        Raises:
            InvalidInput: `base_url` is no URL.
        """
        own = "base_url" in job.settings
        home = job.home if own else job.settings.get("home", job.home)
        environment = {**agent_cli.environment(job, home=home), **_SWITCHES}
        if own:
            key = job.settings.get("api_key_env", KEY_VARIABLE)
            environment["ANTHROPIC_BASE_URL"] = agent_cli.server_root(job.settings["base_url"])
            environment[KEY_VARIABLE] = environment.get(key, "none")
        if "model" in job.settings:
            model = job.settings["model"]
            environment["ANTHROPIC_MODEL"] = model
            small = job.settings.get("small_model", model if own else "")
            environment.update({"ANTHROPIC_SMALL_FAST_MODEL": small} if small else {})
        if self._root:
            # As root claude refuses to skip permissions unless it is told of a sandbox.
            environment["IS_SANDBOX"] = "1"
        return Launch(argv=_argv(job), environment=environment, cwd=job.worktree)

    def parser(self) -> Parser:
        """Return a fresh parser for one run."""
        return ClaudeParser()


class ClaudeParser:
    """Reads one run of claude's stream of JSON records."""

    def __init__(self) -> None:
        self._session: str | None = None
        self._model = ""
        self._summary = ""
        self._spent: dict[str, Usage] = {}
        self._usage: Usage | None = None
        self._failed: Failed | None = None
        self._error_name = ""
        self._resets_at_ms: int | None = None
        self._completed = False
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
            usage=self._total(),
            resets_at_ms=self._failed.resets_at_ms if self._failed else None,
        )

    def _judge(self, ended: Exit) -> tuple[FailureClass | None, str]:
        if self._failed is not None:
            return self._failed.failure, self._failed.message
        if not self._completed:
            return agent_cli.ended_without_record(ended, list(self._tail))
        if self._total().output == 0:
            return FailureClass.AGENT, "claude reports success without one token of output"
        return None, ""

    def _total(self) -> Usage:
        """What the final record says, else the sum of the messages (of a killed run)."""
        if self._usage is not None:
            return self._usage
        return _added(self._spent.values(), self._model)

    def _events(self, record: Json) -> Iterator[RuntimeEvent]:
        match record.get("type"):
            case "system":
                yield from self._system(record)
            case "assistant":
                yield from self._assistant(record)
            case "user":
                message = agent_cli.record(record.get("message"))
                for block in agent_cli.records(message.get("content")):
                    if block.get("type") == "tool_result":
                        call = agent_cli.text(block.get("tool_use_id"))
                        yield ToolEnded(call, not block.get("is_error"))
            case "rate_limit_event":
                self._limit(agent_cli.record(record.get("rate_limit_info")))
            case "result":
                yield from self._result(record)
            case _:
                return

    def _system(self, record: Json) -> Iterator[RuntimeEvent]:
        session = agent_cli.text(record.get("session_id"))
        match record.get("subtype"):
            case "init" if session and session != self._session:
                self._session = session
                self._named(record)
                yield SessionStarted(session)
            case "api_retry":
                reason = f"{record.get('error')} (status {record.get('error_status')})"
                yield Retrying(f"{reason}, attempt {record.get('attempt')}"[:200])
            case _:
                return

    def _assistant(self, record: Json) -> Iterator[RuntimeEvent]:
        message = agent_cli.record(record.get("message"))
        self._error_name = agent_cli.text(record.get("error"))
        self._spent[agent_cli.text(message.get("id"))] = _usage(message)
        self._named(message)
        for block in agent_cli.records(message.get("content")):
            match block.get("type"):
                case "text":
                    said = agent_cli.text(block.get("text"))
                    yield Warned(said) if self._error_name else Text(said)
                case "thinking":
                    yield Thought(agent_cli.text(block.get("thinking")))
                case "tool_use":
                    call = agent_cli.text(block.get("id"))
                    yield ToolStarted(call, _title(block))
                case _:
                    pass

    def _named(self, record: Json) -> None:
        model = agent_cli.text(record.get("model"))
        if model and model != _NO_MODEL:
            self._model = model

    def _limit(self, info: Json) -> None:
        if info.get("status") == "rejected":
            resets_at_s = agent_cli.count(info.get("resetsAt"))
            self._resets_at_ms = resets_at_s * 1000 or None

    def _result(self, record: Json) -> Iterator[RuntimeEvent]:
        said = agent_cli.text(record.get("result"))
        now = msgspec.structs.replace(_usage(record), model=self._model)
        self._usage = _added([self._usage or Usage(), now], self._model)
        yield now
        self._failed = self._failure(record, said)
        if self._failed is None:
            self._completed, self._summary = True, said
            yield TurnEnded(Stop.END_TURN)
            return
        yield self._failed
        refused = self._failed.failure is FailureClass.REFUSED
        yield TurnEnded(Stop.REFUSAL if refused else Stop.ERROR)

    def _failure(self, record: Json, said: str) -> Failed | None:
        """Return why this final record is none of a success, or None."""
        lied = said.lstrip().startswith("[API Error")
        subtype = agent_cli.text(record.get("subtype"))
        if record.get("is_error") is False and subtype == "success" and not lied:
            return None
        reasons = record.get("errors")
        named = (
            [one for one in reasons if isinstance(one, str)] if isinstance(reasons, list) else []
        )
        message = said or "; ".join(named)[: agent_cli.MESSAGE_CHARACTERS_MAX] or subtype
        failure = self._class_of(record, message)
        limited = failure in {FailureClass.QUOTA, FailureClass.RATE_LIMIT}
        resets = quota.epoch_ms(message) or self._resets_at_ms
        if limited and resets is not None:
            failure = FailureClass.QUOTA
        return Failed(failure, message or "claude says no reason", resets if limited else None)

    def _class_of(self, record: Json, message: str) -> FailureClass:
        if record.get("stop_reason") == "refusal":
            return FailureClass.REFUSED
        if record.get("terminal_reason") == "prompt_too_long":
            return FailureClass.CONTEXT_FULL
        status = agent_cli.count(record.get("api_error_status")) or None
        found = agent_cli.classify(message, status)
        if found in {FailureClass.AGENT, FailureClass.RATE_LIMIT}:
            return _BY_NAME.get(self._error_name, found)
        return found


def _argv(job: Job) -> list[str]:
    return [
        job.settings.get("binary", "claude"),
        "-p",
        agent_cli.prompt_argument(job),
        "--output-format",
        "stream-json",
        "--verbose",
        "--dangerously-skip-permissions",
        *(["--mcp-config", MCP_CONFIG] if job.access and job.access.tools else []),
        *(["--resume", job.resume] if job.resume else []),
    ]


def _usage(record: Json) -> Usage:
    """Return the usage with all input in `input`, as the other drivers have it."""
    usage = agent_cli.record(record.get("usage"))
    cached = agent_cli.count(usage.get("cache_read_input_tokens"))
    written = agent_cli.count(usage.get("cache_creation_input_tokens"))
    fresh = agent_cli.count(usage.get("input_tokens"))
    output = agent_cli.count(usage.get("output_tokens"))
    return Usage(input=fresh + written + cached, cached=cached, output=output, written=written)


def _added(parts: Iterable[Usage], model: str) -> Usage:
    each = tuple(parts)
    return Usage(
        input=sum(spent.input for spent in each),
        cached=sum(spent.cached for spent in each),
        output=sum(spent.output for spent in each),
        written=sum(spent.written for spent in each),
        model=model,
    )


def _title(block: Json) -> str:
    given = agent_cli.record(block.get("input"))
    name = agent_cli.text(block.get("name"))
    told = (agent_cli.text(given.get(key)) for key in ("command", "file_path", "pattern"))
    detail = next((one for one in told if one), "")
    return f"{name}: {detail}" if detail else name


def _logged_in(settings: Mapping[str, str]) -> bool:
    if any(os.environ.get(name) for name in _LOGIN_VARIABLES):
        return True
    home = Path(settings.get("home") or Path.home())
    if (home / ".claude" / ".credentials.json").is_file():
        return True
    try:
        # Where the secret lies in a keychain, this file still names the account.
        return b'"oauthAccount"' in (home / ".claude.json").read_bytes()
    except OSError:
        return False


def _not_ready(version: str, problem: str, fix: str) -> Preflight:
    return Preflight(runtime=Claude.name, ready=False, version=version, problem=problem, fix=fix)
