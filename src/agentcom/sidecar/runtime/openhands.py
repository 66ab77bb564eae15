"""Drives OpenHands in its headless mode: `openhands --headless --json`.

Measured with 1.16.0. Its records stand one a line between whatever else it prints, and the session
in a text at the end; tokens are counted nowhere. Its protocol mode is not used: a cancelled turn
goes on for half a minute there, and servers of MCP are refused.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, base, evidence
from agentcom.sidecar.runtime.agent_cli import Json
from agentcom.sidecar.runtime.program import Driver, Program

PROGRAM: Final = Program(
    name="openhands",
    install="pipx install --python python3.12 openhands",
    login="openhands, and choose a model",
    keys=("LLM_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"),
    logins=(".openhands/agent_settings.json",),
    capabilities=("resume", "progress"),
    switches={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENHANDS_SUPPRESS_BANNER": "1"},
)

SERVERS: Final = ".openhands/mcp.json"
_SESSION: Final = re.compile(r"[Cc]onversation ID:?\s*([0-9a-fA-F-]{32,36})")


class OpenHands(Driver):
    """The runtime `openhands`.

    Settings: `binary`, `model`, and `base_url` and `api_key_env` for a model server of one's own;
    without `base_url` the operator's own settings are used.
    """

    program = PROGRAM
    name = PROGRAM.name
    reports_progress = True
    uses_mcp = True
    takes_turns = True

    def launch(self, job: base.Job) -> base.Launch:
        """Return the call of `openhands --headless`.

        Raises:
            InvalidInput: `base_url` is no URL.
        """
        own = "base_url" in job.settings
        environment = {**agent_cli.environment(job, home=PROGRAM.home(job)), **PROGRAM.switches}
        if own:
            root = agent_cli.server_root(job.settings["base_url"])
            environment["LLM_MODEL"] = f"openai/{job.settings.get('model', 'default')}"
            environment["LLM_BASE_URL"] = f"{root}/v1"
            environment["LLM_API_KEY"] = PROGRAM.key(job)
        servers = msgspec.json.encode({"mcpServers": _servers(job)}).decode()
        return base.Launch(
            argv=_argv(job, own=own),
            environment=environment,
            cwd=job.worktree,
            files=[base.File(SERVERS, servers)] if own else [],
            # Else all agents of a user share one tmux, and the end of one ends the others' shells.
            sockets="TMUX_TMPDIR",
        )

    def parser(self) -> base.Parser:
        """Return a fresh parser for one run."""
        kept = evidence.Evidence(self.name, counts_tokens=False)
        return evidence.LineParser(kept, _events, _lines)


def _lines(line: str) -> Iterator[base.RuntimeEvent]:
    if found := _SESSION.search(line):
        yield base.SessionStarted(found.group(1))


def _events(record: Json) -> Iterator[base.RuntimeEvent]:
    match record.get("kind"):
        case "MessageEvent" if record.get("source") == "agent":
            message = agent_cli.record(record.get("llm_message"))
            parts = agent_cli.records(message.get("content"))
            said = "\n".join(agent_cli.text(part.get("text")) for part in parts)
            if said:
                yield base.Text(said)
            yield base.TurnEnded(base.Stop.END_TURN)
        case "ActionEvent":
            yield from _action(record)
        case "ObservationEvent" | "AgentErrorEvent" | "UserRejectObservation" as kind:
            call = agent_cli.text(record.get("tool_call_id"))
            yield base.ToolEnded(call, kind == "ObservationEvent")
        case "ConversationErrorEvent":
            said = agent_cli.text(record.get("detail")) or agent_cli.text(record.get("code"))
            yield evidence.failed(said or "openhands says no reason")
            yield base.TurnEnded(base.Stop.ERROR)
        case _:
            return


def _action(record: Json) -> Iterator[base.RuntimeEvent]:
    action = agent_cli.record(record.get("action"))
    name = agent_cli.text(record.get("tool_name"))
    if action.get("kind") == "FinishAction":
        yield base.Text(agent_cli.text(action.get("message")))
        yield base.TurnEnded(base.Stop.END_TURN)
        return
    told = agent_cli.text(action.get("command")) or agent_cli.text(record.get("summary"))
    yield base.ToolStarted(
        agent_cli.text(record.get("tool_call_id")), f"{name}: {told}" if told else name
    )


def _argv(job: base.Job, *, own: bool) -> list[str]:
    return [
        PROGRAM.binary(job.settings),
        *("--headless", "--json", "--always-approve"),
        *(["--override-with-envs"] if own else []),
        *(["--resume", job.resume] if job.resume else []),
        *("-t", agent_cli.prompt_argument(job)),
    ]


def _servers(job: base.Job) -> dict[str, Any]:
    if job.access is None or not job.access.tools:
        return {}
    # All attempts of the agent read this file, so it names the variable and not the token.
    bearer = {"Authorization": f"Bearer ${{{agent_cli.TOKEN_VARIABLE}}}"}
    return {"hub": {"url": job.access.url, "transport": "http", "headers": bearer}}
