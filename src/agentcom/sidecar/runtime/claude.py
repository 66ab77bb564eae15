"""Drives Claude Code as one process that is talked to: its `stream-json` dialect, both ways.

What is said and read is in `claude_talker.py`.
"""

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, permission
from agentcom.sidecar.runtime.base import Job, Launch, Parser
from agentcom.sidecar.runtime.claude_talker import SERVER, ClaudeTalker, Opening
from agentcom.sidecar.runtime.permission import Policy
from agentcom.sidecar.runtime.program import Driver, Program

KEY_VARIABLE: Final = "ANTHROPIC_API_KEY"

PROGRAM: Final = Program(
    name="claude",
    install="npm install -g @anthropic-ai/claude-code",
    login="claude auth login",
    keys=(KEY_VARIABLE, "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    logins=(".claude/.credentials.json",),
    login_marks={".claude.json": b'"oauthAccount"'},
    capabilities=("resume", "usage", "progress"),
)

MCP_CONFIG: Final = (
    f'{{"mcpServers":{{"{SERVER}":'
    '{"type":"http","url":"${AGENTCOM_MCP_URL}",'
    '"headers":{"Authorization":"Bearer ${AGENTCOM_MCP_TOKEN}"}}}}'
)
"""Claude itself puts the variables in, so neither its command line nor a file holds the token."""

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


class Claude(Driver):
    """The runtime `claude`.

    Settings: `permissions`; `binary`, `model`, `small_model`, `base_url` and `api_key_env` for a
    model server of one's own; without `base_url` the login in the operator's `home` is used.
    """

    program = PROGRAM
    name = PROGRAM.name
    reports_progress = True
    uses_mcp = True
    takes_turns = True

    def __init__(self, *, root: bool | None = None) -> None:
        self._root = os.geteuid() == 0 if root is None else root

    def launch(self, job: Job) -> Launch:
        """Return the call of `claude -p`; its configuration is all in the environment.

        Raises:
            InvalidInput: `base_url` is no URL, or there is no such policy of permissions.
        """
        policy = permission.policy_of(job.settings)
        own = "base_url" in job.settings
        environment = {**agent_cli.environment(job, home=PROGRAM.home(job)), **_SWITCHES}
        if own:
            environment["ANTHROPIC_BASE_URL"] = agent_cli.server_root(job.settings["base_url"])
            environment[KEY_VARIABLE] = PROGRAM.key(job)
        if "model" in job.settings:
            model = job.settings["model"]
            environment["ANTHROPIC_MODEL"] = model
            small = job.settings.get("small_model", model if own else "")
            environment.update({"ANTHROPIC_SMALL_FAST_MODEL": small} if small else {})
        if self._root:
            # As root claude refuses to skip permissions unless it is told of a sandbox.
            environment["IS_SANDBOX"] = "1"
        return Launch(
            argv=_argv(job, policy),
            environment=environment,
            cwd=job.worktree,
            talks=True,
            opening=msgspec.json.encode(Opening(prompt=job.prompt, permissions=policy)),
        )

    def parser(self) -> Parser:
        """Return a fresh talker for one run."""
        return ClaudeTalker()


def _argv(job: Job, policy: Policy) -> list[str]:
    asks = ["--permission-prompt-tool", "stdio"]
    return [
        PROGRAM.binary(job.settings),
        "-p",
        *("--input-format", "stream-json"),
        *("--output-format", "stream-json"),
        "--verbose",
        "--replay-user-messages",
        *(["--dangerously-skip-permissions"] if policy is Policy.ALLOW else asks),
        *(["--mcp-config", MCP_CONFIG] if job.access and job.access.tools else []),
        *(["--resume", job.resume] if job.resume else []),
    ]
