"""The driver of the test agent, whose stream is this product's own events, one a line."""

import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import agent_cli, base
from agentcom.sidecar.runtime.command import task_environment

PROGRAM: Final = "agentcom.testing.agent"
VERSION: Final = "1.0.0"
_TAIL_LINES: Final = 5


class TestAgent:
    """Runs scripted scenarios, for tests and the demo; needs no model and no key."""

    __test__ = False  # pytest takes the name for a test
    name: str = "testagent"
    reports_progress: bool = True
    uses_mcp: bool = False
    takes_turns: bool = True
    usage_spans_session: bool = False

    def takes_prompts(self, settings: Mapping[str, str]) -> bool:  # noqa: ARG002 - the contract
        return True

    def preflight(self, settings: Mapping[str, str]) -> base.Preflight:
        """Say yes: the program comes with the product."""
        del settings
        return agent_cli.ready(self.name, VERSION, ("edit", "resume"))

    def launch(self, job: base.Job) -> base.Launch:
        """Return this Python with the program; `-P` keeps the worktree off its import path."""
        argv = [sys.executable, "-P", "-m", PROGRAM]
        if len(job.prompt.encode()) <= agent_cli.PROMPT_BYTES_MAX and "\0" not in job.prompt:
            argv.append(f"--prompt={job.prompt}")
        if job.resume is not None:
            argv.append(f"--resume={job.resume}")
        return base.Launch(argv=argv, environment=task_environment(job), cwd=job.worktree)

    def parser(self) -> base.Parser:
        """Return a parser for one run."""
        return _Parser()


class _Parser:
    def __init__(self) -> None:
        self._session: str | None = None
        self._said = ""
        self._failed: base.Failed | None = None
        self._ended: base.TurnEnded | None = None
        self._usage = base.Usage()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def feed(self, line: bytes) -> Sequence[base.RuntimeEvent]:
        try:
            event = msgspec.json.decode(line, type=base.RuntimeEvent)
        except (ValueError, RecursionError):  # also invalid UTF-8
            event = base.Raw(agent_cli.raw_text(line))
        self._note(event)
        return (event,)

    def finish(self, ended: base.Exit) -> base.Verdict:
        failure, message = self._judge(ended)
        return base.Verdict(
            failure=failure,
            message=message,
            summary=self._said,
            session=self._session,
            usage=self._usage,
            resets_at_ms=self._failed.resets_at_ms if self._failed else None,
        )

    def _note(self, event: base.RuntimeEvent) -> None:
        match event:
            case base.SessionStarted(session):
                self._session = session
            case base.Text(said):
                self._said = said[: agent_cli.MESSAGE_CHARACTERS_MAX]
            case base.Failed():
                self._failed = event
            case base.TurnEnded():
                self._ended = event
            case base.Usage(given, cached, output):
                known = self._usage
                self._usage = base.Usage(
                    known.input + given, known.cached + cached, known.output + output
                )
            case base.Raw(said):
                self._tail.append(said)
            case _:
                pass

    def _judge(self, ended: base.Exit) -> tuple[FailureClass | None, str]:
        if self._failed is not None:
            return self._failed.failure, self._failed.message
        if self._ended is None or ended.stop is not None:
            return agent_cli.ended_without_record(ended, list(self._tail))
        if self._ended.stop is not base.Stop.END_TURN or ended.code != 0:
            return FailureClass.AGENT, f"the turn ended with {self._ended.stop}, exit {ended.code}"
        return None, ""
