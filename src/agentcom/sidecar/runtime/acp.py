"""Drives any agent that speaks the Agent Client Protocol, version 1, on its standard streams.

The setting `command` names the agent: `gemini --acp`, `opencode acp`, ... An agent with a driver of
its own is a subclass that says its command, its variables and its files. What is said and read is
in `acp_talker.py`.
"""

import shlex
import shutil
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from agentcom.model.errors import InvalidInput
from agentcom.sidecar.runtime import accounts, agent_cli, base, permission
from agentcom.sidecar.runtime.acp_talker import AcpTalker, Opening

CAPABILITIES: Final = ("resume", "progress")


class Acp:
    """The runtime `acp`.

    Settings: `command`, the agent's command line, without a shell; `permissions`; `model` and
    `mode`, which the agent is asked to take for its session; `auth_method`, one of those that the
    agent offers; `home`, else the agent has a home of its own.
    """

    name: str = "acp"
    reports_progress: bool = True
    uses_mcp: bool = True
    takes_turns: bool = True
    usage_spans_session: bool = False

    def takes_prompts(self, settings: Mapping[str, str]) -> bool:
        """Without a command there is nobody."""
        return bool(self.argv(settings))

    def preflight(self, settings: Mapping[str, str]) -> base.Preflight:
        """Return whether the agent's program is there; it is not started."""
        argv = self.argv(settings)
        problem = "no command" if not argv else ""
        if argv and shutil.which(argv[0]) is None:
            problem = f"{argv[0]} is not on PATH"
        if problem:
            fix = "set the agent's `command`, as in command='opencode acp', or install it"
            return base.Preflight(runtime=self.name, ready=False, problem=problem, fix=fix)
        account = accounts.find(self.name, settings, {})
        return agent_cli.ready(self.name, "", CAPABILITIES, account)

    def launch(self, job: base.Job) -> base.Launch:
        """Return the agent's command, and what its talker has to know.

        Raises:
            InvalidInput: there is no command, or no such policy of permissions.
        """
        argv = self.argv(job.settings)
        if not argv:
            raise InvalidInput("command", "this agent has no command: set it, as in opencode acp")
        tools = job.access if job.access is not None and job.access.tools else None
        opening = Opening(
            cwd=job.worktree,
            prompt=job.prompt,
            resume=job.resume,
            permissions=permission.policy_of(job.settings),
            mcp_url=tools.url if tools else "",
            mcp_token=tools.token if tools else "",
            auth_method=job.settings.get("auth_method", ""),
            model=self.model(job.settings),
            mode=job.settings.get("mode", ""),
        )
        return base.Launch(
            argv=argv,
            environment=self.environment(job),
            cwd=job.worktree,
            files=self.files(job),
            talks=True,
            opening=msgspec.json.encode(opening),
        )

    def parser(self) -> base.Parser:
        """Return a fresh talker for one run."""
        return AcpTalker(self.name)

    # What an agent with a driver of its own says otherwise -------------------------------------

    def argv(self, settings: Mapping[str, str]) -> Sequence[str]:
        """Return the agent's command line; empty if there is none.

        Raises:
            InvalidInput: a quotation in it does not end.
        """
        try:
            return shlex.split(settings.get("command", ""))
        except ValueError as error:
            raise InvalidInput("command", str(error)) from None

    def model(self, settings: Mapping[str, str]) -> str:
        """Return the model that is asked for by the protocol; empty: none is."""
        return settings.get("model", "")

    def environment(self, job: base.Job) -> dict[str, str]:
        """Return the agent's variables."""
        return agent_cli.environment(job, home=job.settings.get("home", job.home))

    def files(self, job: base.Job) -> Sequence[base.File]:  # noqa: ARG002 - for subclasses
        """Return files that must be in the agent's own home."""
        return ()
