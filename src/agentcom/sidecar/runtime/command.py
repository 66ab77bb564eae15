"""The plainest runtime: any command. It says nothing while it works; its exit code is the verdict.

The task reaches it by environment only (`AGENTCOM_TASK_FILE`, `AGENTCOM_TASK`,
`AGENTCOM_WORKTREE`, `AGENTCOM_SUBMIT`, `AGENTCOM_NOTICES`), never by templates in argv, and never
through a shell.
"""

import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from agentcom.model import errors
from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import agent_cli, base

SUMMARY_LINES: Final = 5
"""Of an output without records the end says most: a total, or an error."""


class PlainCommand:
    """Runs the task's own command, else the one of the agent's setting `binary`."""

    name: str = "command"
    reports_progress: bool = False
    uses_mcp: bool = False
    takes_turns: bool = False
    usage_spans_session: bool = False

    def takes_prompts(self, settings: Mapping[str, str]) -> bool:
        """Only a configured binary can: it finds the prompt in the task file."""
        return "binary" in settings

    def preflight(self, settings: Mapping[str, str]) -> base.Preflight:
        """Check only that a configured binary is there; it is not run, since it may be anything."""
        binary = settings.get("binary")
        if binary is None or shutil.which(binary) is not None:
            return base.Preflight(runtime=self.name, ready=True, capabilities=("command",))
        return base.Preflight(
            runtime=self.name,
            ready=False,
            problem=f"{binary} is not on PATH",
            fix="install it, or set `binary` to its full path",
        )

    def launch(self, job: base.Job) -> base.Launch:
        """Return the command as it was given.

        Raises:
            InvalidInput: neither the task nor the agent names a command.
        """
        binary = job.settings.get("binary")
        argv = tuple(job.command) or ((binary,) if binary else ())
        if not argv:
            raise errors.InvalidInput("command", "this agent runs commands; the task gives none")
        return base.Launch(argv=argv, environment=task_environment(job), cwd=job.worktree)

    def parser(self) -> base.Parser:
        """Return a parser that keeps the last lines."""
        return _Parser()


def task_environment(job: base.Job) -> dict[str, str]:
    """Return every agent's variables and those that name the task."""
    return {
        **agent_cli.environment(job, home=job.home),
        "AGENTCOM_TASK": job.task,
        "AGENTCOM_TASK_FILE": job.task_file,
        "AGENTCOM_WORKTREE": job.worktree,
        "AGENTCOM_SUBMIT": f"{job.worktree}/.agentcom/submit",
        "AGENTCOM_ATTEMPT": job.attempt,
        "AGENTCOM_NOTICES": job.notices,
    }


class _Parser:
    def __init__(self) -> None:
        self._last: deque[str] = deque(maxlen=SUMMARY_LINES)

    def feed(self, line: bytes) -> Sequence[base.RuntimeEvent]:
        said = agent_cli.raw_text(line)
        if said:
            self._last.append(said)
        return (base.Raw(said),)

    def finish(self, ended: base.Exit) -> base.Verdict:
        summary = "\n".join(self._last)[: agent_cli.MESSAGE_CHARACTERS_MAX]
        if ended.code == 0 and ended.stop is None:
            return base.Verdict(failure=None, summary=summary)
        failure, message = _judge(ended, list(self._last))
        return base.Verdict(failure=failure, message=message, summary=summary)


def _judge(ended: base.Exit, tail: Sequence[str]) -> tuple[FailureClass, str]:
    if ended.stop is None and ended.code not in {None, 126, 127}:
        said = f": {tail[-1]}" if tail else ""
        return FailureClass.AGENT, f"exit {ended.code}{said}"
    if ended.stop is None and ended.code is None and ended.signal is None:
        return FailureClass.CRASHED, "the supervisor was killed"
    return agent_cli.ended_without_record(ended, tail)
