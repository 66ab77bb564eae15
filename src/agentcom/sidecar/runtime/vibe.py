"""Drives Mistral Vibe by the Agent Client Protocol: `vibe-acp`, which comes with `vibe`.

Measured with 3.0.2. Its one-shot mode leaves the verdict in a file, which holds its whole
configuration too; the protocol says the same on the line.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, base
from agentcom.sidecar.runtime.acp import Acp
from agentcom.sidecar.runtime.acp_talker import Opening
from agentcom.sidecar.runtime.program import Driver, Program

PROGRAM: Final = Program(
    name="vibe",
    install="pipx install mistral-vibe",
    login="vibe --setup",
    keys=("MISTRAL_API_KEY",),
    logins=(".vibe/.env",),
    capabilities=("resume", "usage", "progress"),
)

CONFIG: Final = ".vibe/config.toml"
TALKS: Final = "vibe-acp"
"""The program that speaks the protocol."""


class Vibe(Driver, Acp):
    """The runtime `vibe`.

    Settings: `binary` (the program `vibe`, with `vibe-acp` beside it), `model`, `permissions`, and
    `base_url` and `api_key_env` for a model server of one's own; without `base_url` the login in
    the operator's `home` is used.
    """

    program = PROGRAM
    name = PROGRAM.name

    def argv(self, settings: Mapping[str, str]) -> Sequence[str]:
        """Return the call that waits for the protocol."""
        given = settings.get("binary")
        return [str(Path(given).with_name(TALKS)) if given else TALKS]

    def model(self, settings: Mapping[str, str]) -> str:
        """Return the model, unless the configuration has it."""
        return "" if "base_url" in settings else settings.get("model", "")

    def environment(self, job: base.Job) -> dict[str, str]:
        """Return the agent's variables."""
        home = PROGRAM.home(job)
        environment = agent_cli.environment(job, home=home)
        if "base_url" in job.settings:
            environment["VIBE_HOME"] = str(Path(home, CONFIG).parent)
            environment.setdefault(PROGRAM.key_variable(job.settings), "none")
        return environment

    def launch(self, job: base.Job) -> base.Launch:
        """Return the call, with the hub's tools in its configuration where it has one of its own.

        A server that the protocol names is not there yet in the first turn.
        """
        launch = super().launch(job)
        if not launch.files:
            return launch
        opening = msgspec.json.decode(launch.opening, type=Opening)
        opening = msgspec.structs.replace(opening, mcp_url="", mcp_token="")
        return msgspec.structs.replace(launch, opening=msgspec.json.encode(opening))

    def files(self, job: base.Job) -> Sequence[base.File]:
        """Return its configuration, when it has a home of its own.

        Raises:
            InvalidInput: `base_url` is no URL.
        """
        if "base_url" not in job.settings:
            return []
        tools = job.access is not None and job.access.tools
        hub = _server(job.access.url) if job.access is not None and tools else ""
        return [base.File(CONFIG, config(job.settings) + hub)]


def config(settings: Mapping[str, str]) -> str:
    """Return `config.toml` for the model server in `settings`."""
    root = agent_cli.server_root(settings["base_url"])
    name = settings.get("model", "default")
    return "\n".join(
        [
            f"active_model = {_quoted(name)}",
            "enable_telemetry = false",
            "enable_update_checks = false",
            "enable_auto_update = false",
            "enable_connectors = false",
            f"vibe_base_url = {_quoted(root)}",
            f"vibe_code_sessions_base_url = {_quoted(root)}",
            # The hub retries with backoff, on other machines too: here some seconds are enough.
            "api_retry_max_elapsed_time = 8",
            "[experiments]",
            "enable = false",
            "[[providers]]",
            'name = "agentcom"',
            f"api_base = {_quoted(f'{root}/v1')}",
            f"api_key_env_var = {_quoted(PROGRAM.key_variable(settings))}",
            'api_style = "openai"',
            'backend = "generic"',
            "[[models]]",
            f"name = {_quoted(name)}",
            'provider = "agentcom"',
            f"alias = {_quoted(name)}",
            "input_price = 0.0",
            "output_price = 0.0",
            "",
        ]
    )


def _server(url: str) -> str:
    return "\n".join(
        [
            "[[mcp_servers]]",
            'name = "hub"',
            'transport = "streamable-http"',
            f"url = {_quoted(url)}",
            # It names the variable, since all attempts of the agent read this file.
            f"api_key_env = {_quoted(agent_cli.TOKEN_VARIABLE)}",
            'api_key_header = "Authorization"',
            'api_key_format = "Bearer {token}"',
            "",
        ]
    )


def _quoted(text: str) -> str:
    # A JSON string is a TOML basic string.
    return msgspec.json.encode(text).decode()
