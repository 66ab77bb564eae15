"""Drives OpenAI's codex as one process that is talked to: `codex app-server`.

What is said and read is in `codex_talker.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, permission
from agentcom.sidecar.runtime.base import File, Job, Launch, Parser
from agentcom.sidecar.runtime.codex_talker import CodexTalker, Opening
from agentcom.sidecar.runtime.program import Driver, Program

CONFIG: Final = ".codex/config.toml"

PROGRAM: Final = Program(
    name="codex",
    install="npm install -g @openai/codex",
    login="codex login",
    keys=("CODEX_API_KEY",),
    logins=(".codex/auth.json",),
    folder_variable="CODEX_HOME",
    server_key="OPENAI_API_KEY",
    capabilities=("resume", "usage", "progress"),
)

_SWITCHES: Final[Mapping[str, str]] = {
    "check_for_update_on_startup": "false",
    "features.plugins": "false",
    "features.apps": "false",
    "features.remote_plugin": "false",
    "analytics.enabled": "false",
    "feedback.enabled": "false",
}
"""Nothing but the model is called."""

_SERVER: Final = "mcp_servers.agentcom"


class Codex(Driver):
    """The runtime `codex`.

    Settings: `permissions`; `binary`, `model`, `base_url` and `api_key_env` for a model server of
    one's own;
    without `base_url` the login in the operator's `home` is used, and no file is written there.
    """

    program = PROGRAM
    name = PROGRAM.name
    reports_progress = True
    uses_mcp = True
    takes_turns = True
    usage_spans_session = True
    """In a resumed session the usage that codex states includes the earlier runs."""

    def launch(self, job: Job) -> Launch:
        """Return the call of `codex app-server`, and its configuration if its home is its own.

        Raises:
            InvalidInput: `base_url` is no URL, or there is no such policy of permissions.
        """
        policy = permission.policy_of(job.settings)
        own = "base_url" in job.settings
        home = PROGRAM.home(job)
        environment = agent_cli.environment(job, home=home)
        if own:
            environment["CODEX_HOME"] = str(Path(home, CONFIG).parent)
            # codex wants the variable to exist, also for a server that asks for no key.
            environment.setdefault(PROGRAM.key_variable(job.settings), "none")
        return Launch(
            argv=_argv(job, own=own),
            environment=environment,
            cwd=job.worktree,
            files=[File(CONFIG, config(job.settings))] if own else [],
            talks=True,
            opening=msgspec.json.encode(
                Opening(prompt=job.prompt, resume=job.resume, permissions=policy)
            ),
        )

    def parser(self) -> Parser:
        """Return a fresh talker for one run."""
        return CodexTalker()


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
        "model_providers.agentcom.env_key": _quoted(PROGRAM.key_variable(settings)),
        "model_providers.agentcom.wire_api": '"responses"',
        # The hub retries with backoff, on other machines too: here one retry is enough.
        "model_providers.agentcom.request_max_retries": "1",
        "model_providers.agentcom.stream_max_retries": "1",
    }
    return "".join(f"{key} = {value}\n" for key, value in values.items())


def _argv(job: Job, *, own: bool) -> list[str]:
    argv = [PROGRAM.binary(job.settings), "app-server"]
    if not own:
        argv += [part for key, value in _SWITCHES.items() for part in ("-c", f"{key}={value}")]
        if "model" in job.settings:
            argv += ["-c", f"model={_quoted(job.settings['model'])}"]
    if job.access is not None and job.access.tools:
        argv += ["-c", f"{_SERVER}.url={_quoted(job.access.url)}"]
        argv += ["-c", f'{_SERVER}.bearer_token_env_var="{agent_cli.TOKEN_VARIABLE}"']
        # Else its first turn may be over before it has the tools.
        argv += ["-c", f"{_SERVER}.required=true"]
    return argv


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string.
    return msgspec.json.encode(text).decode()
