"""Agents of this computer come and go while its sidecar runs; their running work is not touched."""

import contextlib
import os
import signal
from pathlib import Path

import msgspec

from agentcom.cli import context, enrol, output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.model import errors
from agentcom.sidecar.config import AgentConfig, Home


def add(described: str, home: Path | None) -> str:
    """Add the agent that `NAME=RUNTIME[:SETTINGS]` describes, or replace it; return its name.

    Raises:
        CommandFailed: it is not understood.
        NotFound: this computer is no machine of a fleet.
    """
    agent = enrol.parse_agent(described)
    folder = home or context.machine_home()
    others = [known for known in _known(folder) if known.name != agent.name]
    _keep(folder, [*others, agent])
    return agent.name


def remove(name: str, home: Path | None) -> None:
    """Give an agent nothing new; what it runs comes to its end.

    Raises:
        CommandFailed: this computer has no such agent.
    """
    folder = home or context.machine_home()
    known = _known(folder)
    if name not in {agent.name for agent in known if not agent.leaving}:
        names = ", ".join(agent.name for agent in known) or "none"
        raise CommandFailed(
            f"this computer has no agent {name}; it has: {names}",
            hint="agentcom agent ls",
            exit_code=Exit.MISSING,
            code="not_found",
        )
    _keep(
        folder,
        [
            msgspec.structs.replace(agent, leaving=agent.leaving or agent.name == name)
            for agent in known
        ],
    )


def _known(folder: Path) -> tuple[AgentConfig, ...]:
    return Home(folder).load().machine.agents


def _keep(folder: Path, agents: list[AgentConfig]) -> None:
    home = Home(folder)
    machine = msgspec.structs.replace(home.load().machine, agents=tuple(agents))
    home.save(machine)
    if not reload(home):
        output.talk("note: its sidecar does not run here: agentcom up")


def reload(home: Home) -> bool:
    """Have the sidecar of a machine's home read its agents again; False if none runs."""
    try:
        with home.lock():
            pass
    except errors.Conflict:
        pid = home.holder()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGHUP)
                return True
    return False
