"""The driver of the test agent, whose stream is this product's own events, one a line."""

import sys
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, base, evidence
from agentcom.sidecar.runtime.command import task_environment

PROGRAM: Final = "agentcom.testing.agent"
VERSION: Final = "1.0.0"


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
        self._evidence = evidence.Evidence(
            "testagent", counts_tokens=False, speaks=False, fails_by_code=True
        )

    def feed(self, line: bytes) -> Sequence[base.RuntimeEvent]:
        try:
            event = msgspec.json.decode(line, type=base.RuntimeEvent)
        except (ValueError, RecursionError):  # also invalid UTF-8
            event = base.Raw(agent_cli.raw_text(line))
        return self._evidence.noted((event,), log=True)

    def finish(self, ended: base.Exit) -> base.Verdict:
        return self._evidence.verdict(ended)
