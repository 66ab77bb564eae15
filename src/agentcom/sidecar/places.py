"""Who works on an attempt of this machine, by which runtime, and where."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agentcom.model.failure import FailureClass
from agentcom.model.result import Result
from agentcom.sidecar import results, trees
from agentcom.sidecar.config import AgentConfig, Config
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.runtime import base
from agentcom.sidecar.trees import Worktree

COMMAND_RUNTIME: Final = "command"
"""The driver of plain commands, which every agent's place can run."""
RUNTIMES_GROUP: Final = "agentcom.runtimes"


def installed_runtimes() -> dict[str, base.Runtime]:
    """Return every runtime driver that is installed, by its name."""
    found = importlib.metadata.entry_points(group=RUNTIMES_GROUP)
    return {entry.name: entry.load()() for entry in found}


class Over(Exception):
    """The attempt has its result before its time."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.message)
        self.result = result


class Places:
    """What the attempts of a machine find on it."""

    def __init__(self, config: Config, runtimes: Mapping[str, base.Runtime]) -> None:
        self._config = config
        self._home = config.home
        self._runtimes = runtimes

    def worktree(self, record: Record, *, any_attempt: bool = False) -> Worktree | None:
        """Return the attempt's worktree; None if it has none (any more)."""
        if record.body.spec.repo is None:
            return None
        worktree = trees.load(self._home.repositories, record.key.task)
        if worktree is None or not worktree.ready:
            return None
        return worktree if any_attempt or worktree.fence == record.key.fence else None

    def agent(self, record: Record) -> AgentConfig:
        """Return the agent of an attempt; raises `Over` if it left this machine."""
        agent = self._config.agent(record.assignment.agent)
        if agent is None:
            message = f"this machine has no agent {record.assignment.agent} any more"
            raise Over(results.failed(FailureClass.NOT_INSTALLED, message))
        return agent

    def runtime(self, agent: AgentConfig, record: Record) -> base.Runtime:
        """Return the driver for an attempt; raises `Over` if it is not installed."""
        # Any agent's place can run a plain command; only its own runtime follows a prompt.
        name = COMMAND_RUNTIME if record.body.spec.command else agent.runtime
        runtime = self._runtimes.get(name)
        if runtime is None:
            raise Over(results.failed(FailureClass.NOT_INSTALLED, f"no runtime {name} here"))
        return runtime

    def scratch(self, record: Record) -> Path:
        """Return the folder of a task without a repository."""
        where = self._home.scratch(record.key.task)
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        return where
