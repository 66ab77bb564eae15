"""Drives opencode by the Agent Client Protocol: `opencode acp`.

Measured with 1.18.33. Its one-shot stream shows a tool only when it has ended, and nothing before
the model's first answer; the protocol shows both.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, base, permission
from agentcom.sidecar.runtime.acp import Acp
from agentcom.sidecar.runtime.program import Driver, Program

PROGRAM: Final = Program(
    name="opencode",
    install="npm install -g opencode-ai",
    login="opencode auth login",
    keys=("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
    logins=(".local/share/opencode/auth.json",),
    capabilities=("resume", "usage", "progress"),
)

CONTEXT_TOKENS: Final = 128_000
OUTPUT_TOKENS: Final = 8_192
"""Of a model that nobody describes: what the smallest of today's take."""

_SWITCHES: Final[Mapping[str, str]] = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "OPENCODE_DISABLE_SHARE": "1",
}


class OpenCode(Driver, Acp):
    """The runtime `opencode`.

    Settings: `binary`, `model` (`PROVIDER/MODEL`), `permissions`, and `base_url` and `api_key_env`
    for a model server of one's own; without `base_url` the login in the operator's `home` is used.
    """

    program = PROGRAM
    name = PROGRAM.name

    def argv(self, settings: Mapping[str, str]) -> Sequence[str]:
        """Return the call that waits for the protocol."""
        return [PROGRAM.binary(settings), "acp"]

    def model(self, settings: Mapping[str, str]) -> str:  # noqa: ARG002 - the contract
        """Return nothing: the configuration has it."""
        return ""

    def environment(self, job: base.Job) -> dict[str, str]:
        """Return the agent's variables, and with them its configuration: no file is written.

        Raises:
            InvalidInput: `base_url` is no URL.
        """
        environment = {**agent_cli.environment(job, home=PROGRAM.home(job)), **_SWITCHES}
        if "base_url" in job.settings:
            environment.setdefault(PROGRAM.key_variable(job.settings), "none")
        given = msgspec.json.encode(config(job.settings))
        environment["OPENCODE_CONFIG_CONTENT"] = given.decode()
        return environment


def config(settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration; with `base_url` it names that model server and no other."""
    policy = permission.policy_of(settings)
    may = "allow" if policy is permission.Policy.ALLOW else "ask"
    shared = {
        "autoupdate": False,
        "share": "disabled",
        "permission": {"edit": may, "bash": may, "webfetch": may, "external_directory": may},
    }
    if "base_url" not in settings:
        return {**shared, **({"model": settings["model"]} if "model" in settings else {})}
    name = settings.get("model", "default")
    limit = {"context": CONTEXT_TOKENS, "output": OUTPUT_TOKENS}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {
            "baseURL": f"{agent_cli.server_root(settings['base_url'])}/v1",
            "apiKey": f"{{env:{PROGRAM.key_variable(settings)}}}",
        },
        "models": {name: {"limit": limit}},
    }
    return {
        **shared,
        "model": f"agentcom/{name}",
        "small_model": f"agentcom/{name}",
        "enabled_providers": ["agentcom"],
        "provider": {"agentcom": provider},
    }
