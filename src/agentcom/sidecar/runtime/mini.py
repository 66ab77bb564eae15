"""Drives mini-swe-agent with one task: `mini -y --exit-immediately`, which prints text for people.

Measured with 2.4.6. Its agent ends by a command that says so. What proves a run is that command in
the agent's last step: its instructions, which name it too, stand in the output as well. It counts
no tokens.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from agentcom.sidecar.runtime import agent_cli, base, evidence
from agentcom.sidecar.runtime.program import Driver, Program

PROGRAM: Final = Program(
    name="mini",
    install="pipx install mini-swe-agent && pipx inject mini-swe-agent mcp",
    login="mini-extra config setup",
    keys=("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
    logins=(".config/mini-swe-agent/.env",),
    asks=("--help",),
    switches={"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
)

TRAJECTORY: Final = "trajectory.json"
"""Beside the task file; what it did, for a person."""

_SWITCHES: Final[Mapping[str, str]] = {
    "COLUMNS": "2000",
    "MSWEA_CONFIGURED": "true",
    "MSWEA_SILENT_STARTUP": "1",
    "MSWEA_COST_TRACKING": "ignore_errors",
    "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "2",
    **PROGRAM.switches,
}

_STEP: Final = "mini-swe-agent (step "
_SUBMIT: Final = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""What its agent runs when it is done."""
_END: Final = "Exit:"
"""The line before the one that says why it ended; after a submission it says nothing certain."""
_ERROR: Final = re.compile(r"litellm\.\w*(?:Error|Exception|Exceeded)|^\w*(?:Error|Exceeded): ")


class Mini(Driver):
    """The runtime `mini`.

    Settings: `binary`, `model`, and `base_url` and `api_key_env` for a model server of one's own.
    """

    program = PROGRAM
    name = PROGRAM.name
    reports_progress = False
    uses_mcp = False
    takes_turns = False

    def launch(self, job: base.Job) -> base.Launch:
        """Return the call of `mini`.

        Raises:
            InvalidInput: `base_url` is no URL.
        """
        settings = job.settings
        environment = {**agent_cli.environment(job, home=PROGRAM.home(job)), **_SWITCHES}
        model = settings.get("model", "")
        if "base_url" in settings:
            root = f"{agent_cli.server_root(settings['base_url'])}/v1"
            environment |= {"OPENAI_BASE_URL": root, "OPENAI_API_BASE": root}
            environment["OPENAI_API_KEY"] = PROGRAM.key(job)
            model = f"openai/{model or 'default'}"
        argv = [
            PROGRAM.binary(settings),
            *("-y", "--exit-immediately", "-t", agent_cli.prompt_argument(job)),
            *("-o", str(Path(job.task_file).with_name(TRAJECTORY))),
            *(["-m", model] if model else []),
        ]
        return base.Launch(argv=argv, environment=environment, cwd=job.worktree)

    def parser(self) -> base.Parser:
        """Return a fresh parser for one run."""
        proof = evidence.Evidence(self.name, counts_tokens=False, fails_by_code=True)
        return evidence.LineParser(proof, lambda _: (), _Reader().read)


class _Reader:
    """Turns mini's lines into events: it prints the whole talk, its own instructions first."""

    def __init__(self) -> None:
        self._acts = False
        """Whether what is printed is the agent's own step."""
        self._submitted = False
        self._ends = False
        self._error = ""

    def read(self, line: str) -> Iterator[base.RuntimeEvent]:
        said = line.strip()
        if said.startswith(_STEP):
            self._acts, self._submitted = True, False
        elif said == "User:":
            self._acts = False
        elif said == _SUBMIT and self._acts:
            self._submitted = True
        if self._ends:
            self._ends = False
            yield evidence.failed(self._error or f"mini ended: {said}")
        elif said == _END and self._submitted:
            yield base.TurnEnded(base.Stop.END_TURN)
        elif said == _END:
            self._ends = True
        elif _ERROR.search(line):
            self._error = line
            yield base.Warned(line)
        elif said:
            yield base.Text(line)
