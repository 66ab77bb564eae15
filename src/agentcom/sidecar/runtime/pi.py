"""Drives pi in its print mode with JSON records: `pi -p --mode json`.

Measured with 0.73.1. Its exit code is 0 also after an error: the verdict is the `stopReason` of
the last message. With every word of a message it says the whole message anew: a long one would
be hundreds of megabytes, so only the start of those records is kept.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, base, evidence
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.program import Driver, Program

PROGRAM: Final = Program(
    name="pi",
    install="npm install -g @mariozechner/pi-coding-agent",
    login="pi, then /login",
    keys=("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"),
    logins=(".pi/agent/auth.json",),
    capabilities=("resume", "usage", "progress"),
    switches={"PI_OFFLINE": "1", "PI_TELEMETRY": "0"},
)

CONFIG: Final = ".pi/agent/models.json"
SETTINGS: Final = ".pi/agent/settings.json"

CONTEXT_TOKENS: Final = 128_000
OUTPUT_TOKENS: Final = 8_192
"""Of a model that nobody describes: what the smallest of today's take."""


_GOES_ON: Final = '{"type":"message_update"'

_BAD_STOPS: Final = frozenset({"error", "aborted"})


class Pi(Driver):
    """The runtime `pi`.

    Settings: `binary`, `model`, `provider`, and `base_url` and `api_key_env` for a model server of
    one's own; without `base_url` the login in the operator's `home` is used.
    """

    program = PROGRAM
    name = PROGRAM.name
    reports_progress = True
    uses_mcp = False
    """It has no client for MCP: its agent uses the command `agentcom`."""
    takes_turns = True

    def launch(self, job: base.Job) -> base.Launch:
        """Return the call of `pi -p`, and its list of models when it has a home of its own.

        Raises:
            InvalidInput: `base_url` is no URL.
        """
        own = "base_url" in job.settings
        environment = {**agent_cli.environment(job, home=PROGRAM.home(job)), **PROGRAM.switches}
        if own:
            environment.setdefault(PROGRAM.key_variable(job.settings), "none")
        return base.Launch(
            argv=_argv(job, own=own),
            environment=environment,
            cwd=job.worktree,
            files=_files(job.settings) if own else (),
            brief=(_GOES_ON,),
        )

    def parser(self) -> base.Parser:
        """Return a fresh parser for one run."""
        return evidence.LineParser(evidence.Evidence(self.name), _Reader().read, _read_cut)


class _Reader:
    """Turns pi's records into events."""

    def __init__(self) -> None:
        self._error = ""

    def read(self, record: Json) -> Iterator[base.RuntimeEvent]:
        match record.get("type"):
            case "session":
                session = agent_cli.text(record.get("id"))
                if session:
                    yield base.SessionStarted(session)
            case "message_end":
                yield from self._message(agent_cli.record(record.get("message")))
            case "tool_execution_start":
                call = agent_cli.text(record.get("toolCallId"))
                yield base.ToolStarted(call, _title(record))
            case "tool_execution_end":
                call = agent_cli.text(record.get("toolCallId"))
                yield base.ToolEnded(call, not record.get("isError"))
            case "message_update":
                yield base.Streamed()
            case "auto_retry_start":
                yield base.Retrying(agent_cli.text(record.get("errorMessage")))
            case "agent_end":
                yield from self._end()
            case _:
                return

    def _message(self, message: Json) -> Iterator[base.RuntimeEvent]:
        if message.get("role") != "assistant":
            return
        for block in agent_cli.records(message.get("content")):
            match block.get("type"):
                case "text":
                    yield base.Text(agent_cli.text(block.get("text")))
                case "thinking":
                    yield base.Thought(agent_cli.text(block.get("thinking")))
                case _:
                    pass
        spent = _usage(message)
        if spent.input or spent.output:
            yield spent
        said = agent_cli.text(message.get("errorMessage"))
        bad = message.get("stopReason") in _BAD_STOPS
        self._error = (said or f"pi stopped: {message.get('stopReason')}") if bad else ""

    def _end(self) -> Iterator[base.RuntimeEvent]:
        if self._error:
            yield evidence.failed(self._error)
            yield base.TurnEnded(base.Stop.ERROR)
        else:
            yield base.TurnEnded(base.Stop.END_TURN)


def _read_cut(line: str) -> Iterator[base.RuntimeEvent]:
    if line.startswith(_GOES_ON):
        yield base.Streamed()


def _argv(job: base.Job, *, own: bool) -> list[str]:
    settings = job.settings
    provider = "agentcom" if own else settings.get("provider", "")
    return [
        PROGRAM.binary(settings),
        *("-p", "--mode", "json"),
        *(["--provider", provider] if provider else []),
        *(["--model", settings["model"]] if "model" in settings else []),
        *(["--session", job.resume] if job.resume else []),
        agent_cli.prompt_argument(job),
    ]


def _files(settings: Mapping[str, str]) -> list[base.File]:
    name = settings.get("model", "default")
    model = {
        "id": name,
        "name": name,
        "reasoning": False,
        "input": ["text"],
        "contextWindow": CONTEXT_TOKENS,
        "maxTokens": OUTPUT_TOKENS,
        "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
    }
    provider = {
        "baseUrl": f"{agent_cli.server_root(settings['base_url'])}/v1",
        "api": "openai-completions",
        # It names the variable, so that no file holds the key.
        "apiKey": PROGRAM.key_variable(settings),
        "models": [model],
    }
    # The hub retries with backoff, on other machines too: here one retry is enough.
    retry = {"enabled": True, "maxRetries": 1}
    return [
        base.File(CONFIG, msgspec.json.encode({"providers": {"agentcom": provider}}).decode()),
        base.File(SETTINGS, msgspec.json.encode({"retry": retry}).decode()),
    ]


def _usage(message: Json) -> base.Usage:
    """Return the usage with all input in `input`, as the other drivers have it."""
    usage = agent_cli.record(message.get("usage"))
    cached = agent_cli.count(usage.get("cacheRead"))
    written = agent_cli.count(usage.get("cacheWrite"))
    return base.Usage(
        input=agent_cli.count(usage.get("input")) + cached + written,
        cached=cached,
        output=agent_cli.count(usage.get("output")),
        written=written,
        model=agent_cli.text(message.get("model")),
    )


def _title(record: Json) -> str:
    given = agent_cli.record(record.get("args"))
    name = agent_cli.text(record.get("toolName"))
    told = (agent_cli.text(given.get(key)) for key in ("command", "path", "pattern"))
    detail = next((one for one in told if one), "")
    return f"{name}: {detail}" if detail else name
