"""Drives Qwen Code by the Agent Client Protocol: `qwen --acp`.

Measured with 0.15.10. Its one-shot stream passes an error of its model's provider off as success;
here the error is a text, which the protocol's driver knows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, base
from agentcom.sidecar.runtime.acp import Acp
from agentcom.sidecar.runtime.program import Driver, Program

PROGRAM: Final = Program(
    name="qwen",
    install="npm install -g @qwen-code/qwen-code",
    login="qwen, and choose how to log in",
    keys=("OPENAI_API_KEY", "DASHSCOPE_API_KEY"),
    logins=(".qwen/oauth_creds.json",),
    capabilities=("resume", "usage", "progress"),
)

CONFIG: Final = ".qwen/settings.json"
LOG: Final = ".qwen/debug/{session}.txt"

_SETTINGS: Final[Mapping[str, Any]] = {
    "security": {"auth": {"selectedType": "openai"}, "folderTrust": {"enabled": False}},
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    "general": {"enableAutoUpdate": False, "disableAutoUpdate": True},
    # The hub retries with backoff, on other machines too: what cannot be switched off is enough.
    "model": {"generationConfig": {"maxRetries": 0}},
}


class Qwen(Driver, Acp):
    """The runtime `qwen`.

    Settings: `binary`, `model`, `permissions`, and `base_url` and `api_key_env` for a model server
    of one's own; without `base_url` the login in the operator's `home` is used.
    """

    program = PROGRAM
    name = PROGRAM.name

    def launch(self, job: base.Job) -> base.Launch:
        """Return the call; of a quota only its log tells."""
        return msgspec.structs.replace(super().launch(job), provider_log=LOG)

    def argv(self, settings: Mapping[str, str]) -> Sequence[str]:
        """Return the call that waits for the protocol."""
        own = ["--auth-type", "openai"] if "base_url" in settings else []
        model = ["-m", settings["model"]] if "model" in settings else []
        return [PROGRAM.binary(settings), "--acp", *own, *model]

    def model(self, settings: Mapping[str, str]) -> str:  # noqa: ARG002 - the contract
        """Return nothing: the command line has it."""
        return ""

    def environment(self, job: base.Job) -> dict[str, str]:
        """Return the agent's variables.

        Raises:
            InvalidInput: `base_url` is no URL.
        """
        environment = agent_cli.environment(job, home=PROGRAM.home(job))
        if "base_url" in job.settings:
            environment["OPENAI_API_KEY"] = PROGRAM.key(job)
            root = agent_cli.server_root(job.settings["base_url"])
            environment["OPENAI_BASE_URL"] = f"{root}/v1"
            environment["OPENAI_MODEL"] = job.settings.get("model", "default")
        return environment

    def files(self, job: base.Job) -> Sequence[base.File]:
        """Return its settings, when it has a home of its own."""
        own = "base_url" in job.settings
        return [base.File(CONFIG, msgspec.json.encode(_SETTINGS).decode())] if own else []
