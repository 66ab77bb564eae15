"""What a machine knows that no log may show: its token, its agents' secrets, its environment's."""

import contextlib
import os

from agentcom.model.errors import AgentComError
from agentcom.sidecar import jobs
from agentcom.sidecar.config import Config
from agentcom.telemetry.redact import secrets_of


def of(config: Config) -> set[str]:
    """Return the exact texts; files that cannot be read are told of when an agent starts."""
    found = {config.token, *secrets_of(os.environ)}
    for agent in config.machine.agents:
        named = {name: os.environ.get(name, "") for name in agent.environment}
        found |= secrets_of(named)
        if agent.confines.secrets:
            with contextlib.suppress(AgentComError):
                found |= set(jobs.secret_values(agent.confines.secrets).values())
    return found
