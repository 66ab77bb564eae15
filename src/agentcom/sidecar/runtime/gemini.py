"""Drives Gemini CLI by the Agent Client Protocol: `gemini --acp`.

Measured with 0.61.0. Its one-shot stream says no more than the protocol does, and cannot be
interrupted: a signal to its leader is ignored.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, base
from agentcom.sidecar.runtime.acp import Acp
from agentcom.sidecar.runtime.program import Driver, Program

PROGRAM: Final = Program(
    name="gemini",
    install="npm install -g @google/gemini-cli",
    login="gemini, and choose how to log in",
    keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    logins=(".gemini/oauth_creds.json",),
    capabilities=("resume", "usage", "progress"),
)

CONFIG: Final = ".gemini/settings.json"

_SETTINGS: Final[Mapping[str, Any]] = {
    "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    # The hub retries with backoff, on other machines too: here one retry is enough.
    "general": {
        "enableAutoUpdate": False,
        "enableAutoUpdateNotification": False,
        "maxAttempts": 2,
    },
}


class Gemini(Driver, Acp):
    """The runtime `gemini`.

    Settings: `binary`, `model`, `permissions`, and `base_url` and `api_key_env` for a model server
    of one's own; without `base_url` the login in the operator's `home` is used.
    """

    program = PROGRAM
    name = PROGRAM.name

    def argv(self, settings: Mapping[str, str]) -> Sequence[str]:
        """Return the call that waits for the protocol."""
        model = ["-m", settings["model"]] if "model" in settings else []
        return [PROGRAM.binary(settings), "--acp", *model]

    def model(self, settings: Mapping[str, str]) -> str:  # noqa: ARG002 - the contract
        """Return nothing: the command line has it."""
        return ""

    def environment(self, job: base.Job) -> dict[str, str]:
        """Return the agent's variables.

        Raises:
            InvalidInput: `base_url` is no URL.
        """
        environment = agent_cli.environment(job, home=PROGRAM.home(job))
        environment["GEMINI_CLI_TRUST_WORKSPACE"] = "true"
        if "base_url" in job.settings:
            environment["GEMINI_API_KEY"] = PROGRAM.key(job)
            root = agent_cli.server_root(job.settings["base_url"])
            environment["GOOGLE_GEMINI_BASE_URL"] = root
        return environment

    def files(self, job: base.Job) -> Sequence[base.File]:
        """Return its settings, when it has a home of its own."""
        own = "base_url" in job.settings
        return [base.File(CONFIG, msgspec.json.encode(_SETTINGS).decode())] if own else []
