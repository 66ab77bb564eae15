"""Drives aider with one message: `aider --message`, which prints text for people.

Measured with 0.86.2. It exits with 0 whatever happened: what proves a turn is the line that counts
tokens, and what proves a failure is an error of its model that no such line follows.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from agentcom.sidecar.runtime import agent_cli, base, evidence
from agentcom.sidecar.runtime.program import Driver, Program

PROGRAM: Final = Program(
    name="aider",
    install="pipx install aider-chat",
    login="export OPENAI_API_KEY=...",
    keys=("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENROUTER_API_KEY"),
    logins=(".aider.conf.yml", ".aider/oauth-keys.env"),
    capabilities=("usage",),
)

PRICES: Final = ".aider/caches/model_prices_and_context_window.json"
"""While this file is there and new, no table of prices is fetched."""

COLUMNS: Final = "2000"
"""So wide that an error is one line."""

CONTEXT_TOKENS: Final = 128_000
"""Of a model that nobody describes: what the smallest of today's take."""

_SWITCHES: Final = (
    *("--yes-always", "--no-pretty", "--no-stream", "--no-gitignore", "--no-analytics"),
    *("--no-check-update", "--no-show-model-warnings", "--no-show-release-notes"),
    *("--no-suggest-shell-commands", "--no-fancy-input", "--no-detect-urls"),
)

_TOKENS: Final = re.compile(r"^Tokens: ([\d.,]+k?M?) sent(?:,.*?)?, ([\d.,]+k?M?) received")
_UNIT: Final[Mapping[str, int]] = {"k": 1_000, "M": 1_000_000}
_ERROR: Final = re.compile(r"litellm\.\w*(?:Error|Exception|Exceeded)|^\w*Error: ")
_RETRY: Final = re.compile(r"^Retrying in [\d.]+ seconds")
_EDITED: Final = re.compile(r"^(?:Applied edit to|Commit) ")


class Aider(Driver):
    """The runtime `aider`.

    Settings: `binary`, `model`, and `base_url` and `api_key_env` for a model server of one's own.
    """

    program = PROGRAM
    name = PROGRAM.name
    reports_progress = False
    uses_mcp = False
    takes_turns = False

    def launch(self, job: base.Job) -> base.Launch:
        """Return the call of `aider --message`.

        Raises:
            InvalidInput: `base_url` is no URL.
        """
        own = "base_url" in job.settings
        environment = agent_cli.environment(job, home=PROGRAM.home(job))
        environment |= {"AIDER_ANALYTICS": "false", "COLUMNS": COLUMNS}
        files = []
        if own:
            root = agent_cli.server_root(job.settings["base_url"])
            environment["OPENAI_API_BASE"] = f"{root}/v1"
            environment["OPENAI_API_KEY"] = PROGRAM.key(job)
            files.append(base.File(PRICES, _prices(_model(job.settings))))
        return base.Launch(argv=_argv(job), environment=environment, cwd=job.worktree, files=files)

    def parser(self) -> base.Parser:
        """Return a fresh parser for one run."""
        reader = _Reader()
        return evidence.LineParser(evidence.Evidence(self.name), lambda _: (), reader.read)


class _Reader:
    """Turns aider's lines into events."""

    def read(self, line: str) -> Iterator[base.RuntimeEvent]:
        if found := _TOKENS.match(line):
            yield base.Usage(input=_number(found.group(1)), output=_number(found.group(2)))
            yield base.TurnEnded(base.Stop.END_TURN)
        elif _RETRY.match(line):
            yield base.Retrying(line)
        elif _ERROR.search(line):
            yield evidence.failed(line)
        elif _EDITED.match(line) or line:
            yield base.Text(line)


def _argv(job: base.Job) -> list[str]:
    settings = job.settings
    model = _model(settings)
    # For a model that it does not know, aider would send whole files back and forth.
    edits = settings.get("edit_format", "diff" if "base_url" in settings else "")
    return [
        PROGRAM.binary(settings),
        *("--message", agent_cli.prompt_argument(job)),
        *(["--model", model] if model else []),
        *(["--edit-format", edits] if edits else []),
        *_SWITCHES,
    ]


def _model(settings: Mapping[str, str]) -> str:
    """Return the model as aider names it: with its provider."""
    if "base_url" not in settings:
        return settings.get("model", "")
    return f"openai/{settings.get('model', 'default')}"


def _prices(model: str) -> str:
    known = {"max_input_tokens": CONTEXT_TOKENS, "litellm_provider": "openai", "mode": "chat"}
    return msgspec.json.encode({model: known}).decode()


def _number(text: str) -> int:
    unit = _UNIT.get(text[-1], 1)
    try:
        return int(float(text.rstrip("kM").replace(",", "")) * unit)
    except ValueError:
        return 0
