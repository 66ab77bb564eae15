"""What one attempt asks of its agent's runtime: the job, its task file, and the names it leaves."""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

import msgspec

from agentcom.model import refs
from agentcom.sidecar import handover
from agentcom.sidecar.config import AgentConfig, Home
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.runtime import base

COMMAND: Final = "agentcom"
_KEPT_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
_OURS: Final = "AGENTCOM_"
"""Our own variables may hold a token; no agent gets them, whatever its configuration names."""


def make(
    home: Home,
    record: Record,
    agent: AgentConfig,
    *,
    where: Path,
    resume: str | None,
    kept: bool = False,
    access: base.Access | None = None,
) -> base.Job:
    """Return the job of `record` for `agent` in the folder `where`, and write its task file.

    `kept` says whether the work of the attempt before is in that folder.
    """
    spec, folder = record.body.spec, home.attempt(record.key.text)
    own = home.agent(agent.name)
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = [*_KEPT_VARIABLES, *agent.environment]
    names = [name for name in names if name in os.environ and not name.startswith(_OURS)]
    before = handover.earlier(record.assignment, kept=kept)
    prompt = spec.prompt
    if before is not None and resume is None and prompt and not spec.command:
        prompt += handover.section(before)  # who goes on in its own session knows it all
    job = base.Job(
        task=record.key.task,
        attempt=home.tag(record.key.text),
        prompt=prompt,
        task_file=str(folder / "task.json"),
        notices=str(folder / handover.NOTICES),
        worktree=str(where),
        home=str(own),
        command=spec.command,
        resume=resume,
        settings=agent.settings,
        environment=_with_us({name: os.environ[name] for name in names}),
        access=access,
    )
    _write_task_file(job, record, before)
    return job


def _with_us(environment: dict[str, str]) -> dict[str, str]:
    """Return `environment` with the folder of our own command at the end of its path."""
    path, ours = environment.get("PATH", os.defpath), Path(sys.executable).parent
    if shutil.which(COMMAND, path=path) is not None or not (ours / COMMAND).exists():
        return environment
    return {**environment, "PATH": f"{path}{os.pathsep}{ours}"}


def branch(record: Record) -> str:
    """Return the branch that the attempt pushes."""
    assignment = record.assignment
    return refs.branch_name(
        agent=assignment.agent,
        task=assignment.task,
        title=record.body.spec.title,
        fence=assignment.fence,
    )


def message(record: Record) -> str:
    """Return what the commit of an attempt's work says."""
    return f"{record.body.spec.title}\n\nTask: {record.key.task}\n"


def _write_task_file(job: base.Job, record: Record, before: handover.Earlier | None) -> None:
    """Write what the agent is to do; it may read it, and nobody else."""
    task = {
        "task": job.task,
        "attempt": record.key.text,
        "title": record.body.spec.title,
        "prompt": record.body.spec.prompt,
        "command": list(job.command),
        "worktree": job.worktree,
        "earlier": before,
        "notices": job.notices,
    }
    handle = os.open(job.task_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(task))
