"""Drives mini-swe-agent with one task: `mini -y --exit-immediately`, which prints text for people.

Measured with 2.4.6. Its agent ends by a command that says so; the line that names this end is what
proves a run, and tokens are counted nowhere.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from agentcom.sidecar.runtime import agent_cli, base, evidence
from agentcom.sidecar.runtime.program import Program

PROGRAM: Final = Program(
    name="mini",
    install="pipx install mini-swe-agent && pipx inject mini-swe-agent mcp",
    login="mini-extra config setup",
    keys=("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
    logins=(".config/mini-swe-agent/.env",),
    asks=("--help",),
)

TRAJECTORY: Final = "trajectory.json"
"""Beside the task file; what it did, for a person."""

_SWITCHES: Final[Mapping[str, str]] = {
    "MSWEA_CONFIGURED": "true",
    "MSWEA_SILENT_STARTUP": "1",
    "MSWEA_COST_TRACKING": "ignore_errors",
    "MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT": "2",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}

_ENDED: Final = re.compile(r"\bSubmitted\b|COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")
_ERROR: Final = re.compile(r"litellm\.\w*(?:Error|Exception|Exceeded)|^\w*(?:Error|Exceeded): ")


class Mini:
    """The runtime `mini`.

    Settings: `binary`, `model`, and `base_url` and `api_key_env` for a model server of one's own.
    """

    name = PROGRAM.name
    reports_progress = False
    uses_mcp = False
    takes_turns = False
    usage_spans_session = False

    def takes_prompts(self, settings: Mapping[str, str]) -> bool:  # noqa: ARG002 - the contract
        return True

    def preflight(self, settings: Mapping[str, str]) -> base.Preflight:
        """Return whether mini answers and has a key."""
        return PROGRAM.preflight(settings)

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
        proof = evidence.Evidence(self.name, counts_tokens=False)
        return evidence.LineParser(proof, lambda _: (), _read)


def _read(line: str) -> Iterator[base.RuntimeEvent]:
    if _ERROR.search(line):
        yield evidence.failed(line)
    elif line:
        yield base.Text(line)
        if _ENDED.search(line):
            yield base.TurnEnded(base.Stop.END_TURN)
