"""What one attempt asks of its agent's runtime: the job, its task file, and the names it leaves."""

import os
import re
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from agentcom.model import errors, refs
from agentcom.sidecar import answers, handover
from agentcom.sidecar.config import AgentConfig, Home
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.runtime import base
from agentcom.telemetry import trace_ids

COMMAND: Final = "agentcom"
SECRETS_BYTES_MAX: Final = 64 << 10
"""A few keys and a certificate; the kernel takes 128 KiB for one variable."""
_KEPT_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
_TASK_FILE: Final = "task.json"
_OURS: Final = "AGENTCOM_"
"""Our own variables may hold a token; no agent gets them, whatever its configuration names."""


_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

replace: Final = msgspec.structs.replace


def make(
    home: Home,
    record: Record,
    agent: AgentConfig,
    *,
    where: Path,
    resume: str | None,
    kept: bool = False,
    access: base.Access | None = None,
    letters: str = "",
    review: str = "",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> base.Job:
    """Return the job of `record` for `agent` in the folder `where`, and write its task file.

    `kept` says whether the work of the attempt before is in that folder; `letters` is what its
    agent is to be shown with the task, `review` what reviewers want of it, `environment` what its
    repository wants it to have.
    """
    spec = record.body.spec
    before = handover.earlier(record.assignment, kept=kept)
    prompt = spec.prompt
    if before is not None and resume is None and prompt and not spec.command:
        prompt += handover.section(before)  # who goes on in its own session knows it all
    if record.asks:
        prompt += answers.section(record.asks)
    prompt += review
    if letters:
        prompt = f"{prompt}\n\n{letters}"
    folder = home.attempt(record.key.text)
    job = _job(home, record, agent, where=where, folder=folder, access=access)
    job = _with(job, environment)
    told = {"prompt": spec.prompt, "letters": letters, "earlier": before, "answers": record.asks}
    _write_task_file(job, record, {**told, "review": review})
    return replace(job, prompt=prompt, resume=resume)


def again(
    home: Home,
    record: Record,
    agent: AgentConfig,
    *,
    where: Path,
    session: str,
    letters: str,
    folder: Path,
    access: base.Access | None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> base.Job:
    """Return the job of a further turn in `session`; its task file is in the run's `folder`."""
    job = _job(home, record, agent, where=where, folder=folder, access=access)
    job = _with(job, environment)
    _write_task_file(job, record, {"prompt": letters})
    return replace(job, prompt=letters, resume=session)


def _job(
    home: Home,
    record: Record,
    agent: AgentConfig,
    *,
    where: Path,
    folder: Path,
    access: base.Access | None,
) -> base.Job:
    own = home.agent(agent.name)
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    said, names = record.assignment, [*_KEPT_VARIABLES, *agent.environment]
    names = [name for name in names if name in os.environ and not name.startswith(_OURS)]
    return base.Job(
        task=record.key.task,
        attempt=home.tag(record.key.text),
        prompt="",
        task_file=str(folder / _TASK_FILE),
        notices=str(home.attempt(record.key.text) / handover.NOTICES),
        worktree=str(where),
        home=str(own),
        command=record.body.spec.command,
        settings=agent.settings,
        environment=_with_us(
            {name: os.environ[name] for name in names}
            | {"TRACEPARENT": trace_ids.traceparent(said.cause, said.task, said.fence.attempt)}
            | secret_values(agent.confines.secrets)
        ),
        access=access,
    )


def _with(job: base.Job, environment: Mapping[str, str]) -> base.Job:
    """Return `job` with what the repository wants; what the machine gives goes before."""
    return replace(job, environment={**environment, **job.environment})


def secret_values(path: str) -> dict[str, str]:
    """Return the variables in a file of NAME=VALUE lines; `#` begins a comment line.

    Raises:
        NotAllowed: others may read it.
        InvalidInput: it is not there, or a line is no such pair; no value is repeated.
    """
    if not path:
        return {}
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, encoding="utf-8") as file:
            if os.fstat(handle).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise errors.NotAllowed(f"others may read {path}: run `chmod 600 {path}`")
            lines = file.read(SECRETS_BYTES_MAX).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidInput("secrets", f"a file that can be read, not {path}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = line.strip().partition("=")
        if name.startswith("#") or not line.strip():
            continue
        if not equals or not _VARIABLE.fullmatch(name) or name.startswith(_OURS):
            raise errors.InvalidInput(
                "secrets", f"NAME=VALUE, which line {number} of {path} is not"
            )
        found[name] = value
    return found


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


def _write_task_file(job: base.Job, record: Record, told: Mapping[str, object]) -> None:
    """Write what the agent is to do; it may read it, and nobody else."""
    task = {
        "task": job.task,
        "attempt": record.key.text,
        "title": record.body.spec.title,
        "command": list(job.command),
        "worktree": job.worktree,
        "notices": job.notices,
        **told,
    }
    handle = os.open(job.task_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(task))
