"""Drives openclaw for one turn: `openclaw agent exec --json`, which answers with one envelope.

Measured with 2026.9.6. Nothing is printed before the end, so only the deadline bounds it; what it
logs goes to standard error.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, base, evidence
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.program import Driver, Program

PROGRAM: Final = Program(
    name="openclaw",
    install="npm install -g openclaw",
    login="openclaw onboard",
    keys=("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY"),
    logins=(".openclaw/openclaw.json",),
    capabilities=("usage",),
    switches={
        "OPENCLAW_TELEMETRY": "0",
        "OPENCLAW_DISABLE_UPDATE_CHECK": "1",
        "OPENCLAW_OFFLINE": "1",
    },
)

CONFIG: Final = ".openclaw/agentcom.json"

TURN_S: Final = 86_400
"""Its own limit of a turn is out of the way: the sidecar knows the attempt's deadline."""

ENVELOPE_BYTES_MAX: Final = agent_cli.LINE_BYTES_MAX
"""Of an answer that is longer only the end is looked at, and that is no answer."""

CONTEXT_TOKENS: Final = 128_000
OUTPUT_TOKENS: Final = 8_192
"""Of a model that nobody describes: what the smallest of today's take."""


class OpenClaw(Driver):
    """The runtime `openclaw`.

    Settings: `binary`, `model`, and `base_url` and `api_key_env` for a model server of one's own;
    without `base_url` the operator's own configuration is used.
    """

    program = PROGRAM
    name = PROGRAM.name
    reports_progress = False
    uses_mcp = True
    takes_turns = False

    def launch(self, job: base.Job) -> base.Launch:
        """Return the call of `openclaw agent exec`.

        Raises:
            InvalidInput: `base_url` is no URL.
        """
        own = "base_url" in job.settings
        home = PROGRAM.home(job)
        environment = {**agent_cli.environment(job, home=home), **PROGRAM.switches}
        files: Sequence[base.File] = ()
        if own:
            environment.setdefault(PROGRAM.key_variable(job.settings), "none")
            environment["OPENCLAW_CONFIG_PATH"] = str(Path(home, CONFIG))
            files = [base.File(CONFIG, msgspec.json.encode(config(job)).decode())]
        return base.Launch(
            argv=_argv(job, home=home, own=own),
            environment=environment,
            cwd=job.worktree,
            files=files,
        )

    def parser(self) -> base.Parser:
        """Return a fresh parser for one run."""
        return _Parser()


def config(job: base.Job) -> dict[str, Any]:
    """Return the configuration for the model server in the job's settings."""
    settings = job.settings
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
        # Both are filled in by openclaw itself, so that no file holds a key or a token.
        "apiKey": f"${{{PROGRAM.key_variable(settings)}}}",
        "api": "openai-completions",
        "models": [model],
    }
    hub = {
        "url": job.access.url if job.access else "",
        "transport": "streamable-http",
        "headers": {"Authorization": f"Bearer ${{{agent_cli.TOKEN_VARIABLE}}}"},
    }
    tools = job.access is not None and job.access.tools
    return {
        "models": {"mode": "replace", "providers": {"agentcom": provider}},
        "agents": {"defaults": {"model": {"primary": f"agentcom/{name}"}}},
        "update": {"checkOnStart": False},
        **({"mcp": {"servers": {"hub": hub}}} if tools else {}),
    }


class _Parser:
    """Keeps what is printed until it is one envelope."""

    def __init__(self) -> None:
        self._evidence = evidence.Evidence("openclaw")
        self._said = bytearray()

    def feed(self, line: bytes) -> Sequence[base.RuntimeEvent]:
        """Return the events of one line; the envelope's come with its last one."""
        self._said += line + b"\n"
        del self._said[: max(0, len(self._said) - ENVELOPE_BYTES_MAX)]
        ends = line.rstrip().endswith(b"}") and not line.startswith(b" ")
        envelope = _envelope(bytes(self._said)) if ends else None
        events = list(_events(envelope)) if envelope is not None else []
        for event in events or [base.Raw(agent_cli.raw_text(line))]:
            self._evidence.note(event)
        return events or [base.Raw(agent_cli.raw_text(line))]

    def finish(self, ended: base.Exit) -> base.Verdict:
        """Judge the run by its envelope."""
        return self._evidence.verdict(ended)


def _envelope(said: bytes) -> Json | None:
    """Return the record at the end of what was printed."""
    start = 0 if said.startswith(b"{") else said.find(b"\n{") + 1
    return agent_cli.decode(said[start:]) if said[start : start + 1] == b"{" else None


def _events(envelope: Json) -> Iterator[base.RuntimeEvent]:
    if "ok" not in envelope:
        return
    session = agent_cli.text(envelope.get("sessionId"))
    if session:
        yield base.SessionStarted(session, resumable=False)
    said = agent_cli.text(envelope.get("final"))
    spent = _usage(envelope)
    if spent.input or spent.output:
        yield spent
    if envelope.get("ok") is True:
        yield base.Text(said)
        yield base.TurnEnded(base.Stop.END_TURN)
        return
    error = envelope.get("error")
    message = agent_cli.text(error) or agent_cli.text(agent_cli.record(error).get("message"))
    status = agent_cli.text(envelope.get("status"))
    yield evidence.failed(message or said or f"openclaw says only: {status}")
    yield base.TurnEnded(base.Stop.ERROR)


def _usage(envelope: Json) -> base.Usage:
    usage = agent_cli.record(envelope.get("usage"))
    cached = agent_cli.count(usage.get("cacheRead"))
    written = agent_cli.count(usage.get("cacheWrite"))
    return base.Usage(
        input=agent_cli.count(usage.get("input")) + cached + written,
        cached=cached,
        output=agent_cli.count(usage.get("output")),
        written=written,
        model=agent_cli.text(envelope.get("model")),
    )


def _argv(job: base.Job, *, home: str, own: bool) -> list[str]:
    settings = job.settings
    model = settings.get("model", "default")
    return [
        PROGRAM.binary(settings),
        *("agent", "exec", "--json", "--cwd", job.worktree, "--timeout", str(TURN_S)),
        *(["--config", str(Path(home, CONFIG)), "--no-auth-env-only"] if own else []),
        *(["--model", f"agentcom/{model}" if own else model] if own or "model" in settings else []),
        agent_cli.prompt_argument(job),
    ]
