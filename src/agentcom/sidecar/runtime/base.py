"""What every runtime driver is: a pure map from a job to argv, and from output lines to events.

A driver starts nothing and reads no clock. `process.py` runs what `launch` returns under one
supervisor process per attempt and feeds the lines of its output to the parser.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from agentcom.model.failure import FailureClass


class Stop(StrEnum):
    """How a turn ended (the Agent Client Protocol's set, and ours)."""

    END_TURN = "end_turn"
    MAX_TOKENS = "max_tokens"
    REFUSAL = "refusal"
    CANCELLED = "cancelled"
    ERROR = "error"
    NO_PROGRESS = "no_progress"
    DEADLINE = "deadline"


class Access(msgspec.Struct, frozen=True):
    """Where an agent reaches the hub by MCP, and the token of its attempt."""

    url: str
    token: str
    file: str
    """Where the token is, too."""
    tools: bool = False
    """Whether the hub speaks MCP."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of an agent needs to know. Paths are absolute."""

    task: str
    attempt: str
    prompt: str
    task_file: str
    worktree: str
    home: str
    command: Sequence[str] = ()
    resume: str | None = None
    settings: Mapping[str, str] = {}
    """The agent's runtime settings: `binary`, `model`, `base_url`, `api_key_env`, ..."""
    environment: Mapping[str, str] = {}
    """Allow-listed variables; the child's environment is built from nothing but these."""
    notices: str = ""
    """The file where notices of the hub appear while the agent works."""
    access: Access | None = None
    """None: this agent has no way to the hub."""


class File(msgspec.Struct, frozen=True):
    """A configuration file that must exist (0600) before the start, path relative to `home`."""

    path: str
    text: str


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly what to execute; no shell is involved. stdin is the null device."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    cwd: str
    files: Sequence[File] = ()


class SessionStarted(msgspec.Struct, frozen=True, tag="session"):
    """The agent named its session; `resumable` only in the same worktree path."""

    id: str
    resumable: bool = True


class Text(msgspec.Struct, frozen=True, tag="text"):
    """The agent said something."""

    text: str


class Thought(msgspec.Struct, frozen=True, tag="thought"):
    """The agent reasoned aloud."""

    text: str


class ToolStarted(msgspec.Struct, frozen=True, tag="tool.started"):
    """The agent called a tool; the no-progress clock stands still until it ends."""

    id: str
    title: str


class ToolEnded(msgspec.Struct, frozen=True, tag="tool.ended"):
    """A tool call ended."""

    id: str
    ok: bool = True


class Usage(msgspec.Struct, frozen=True, tag="usage"):
    """Tokens spent since the last `Usage` of this run."""

    input: int = 0
    cached: int = 0
    output: int = 0
    written: int = 0
    """Part of `input`: what was written to a cache."""
    model: str = ""
    """As the agent names it; empty: it does not say."""


class Retrying(msgspec.Struct, frozen=True, tag="retry"):
    """The agent's CLI tries its model again; this is not progress."""

    reason: str


class Warned(msgspec.Struct, frozen=True, tag="warning"):
    """Something odd that is not the end."""

    message: str


class Failed(msgspec.Struct, frozen=True, tag="error"):
    """The agent reported an error that decides the run."""

    failure: FailureClass
    message: str
    resets_at_ms: int | None = None


class TurnEnded(msgspec.Struct, frozen=True, tag="turn.ended"):
    """The final record of the stream."""

    stop: Stop


class Raw(msgspec.Struct, frozen=True, tag="raw"):
    """A line that is not an event: a log line."""

    line: str


RuntimeEvent = (
    SessionStarted
    | Text
    | Thought
    | ToolStarted
    | ToolEnded
    | Usage
    | Retrying
    | Warned
    | Failed
    | TurnEnded
    | Raw
)


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How the agent's leading process ended; a code is never a verdict by itself."""

    code: int | None
    signal: int | None = None
    stop: Stop | None = None
    """Set when we ended it (cancelled, no progress, deadline)."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the evidence says: `failure` is None only if the run itself succeeded."""

    failure: FailureClass | None
    message: str = ""
    summary: str = ""
    session: str | None = None
    usage: Usage = Usage()
    resets_at_ms: int | None = None


class Parser(Protocol):
    """Reads one run's standard output, line by line, and judges it at the end."""

    def feed(self, line: bytes) -> Sequence[RuntimeEvent]:
        """Return the events of one line; never raises, whatever the bytes."""
        ...

    def finish(self, ended: Exit) -> Verdict:
        """Judge the whole run by its evidence: final record, errors, tokens, exit."""
        ...


class Preflight(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the runtime can work here, and what to do if it cannot."""

    runtime: str
    ready: bool
    version: str = ""
    capabilities: Sequence[str] = ()
    problem: str = ""
    fix: str = ""
    account: str | None = None
    """Whose quota it uses up, as its login tells."""


class Runtime(Protocol):
    """One way to drive an agent; an entry point of the group `agentcom.runtimes`."""

    name: str
    reports_progress: bool
    """False: no event stream, so only the deadline bounds it."""
    uses_mcp: bool
    """True: it takes the hub's tools from the MCP server in `Job.access`."""
    takes_turns: bool
    """True: in its session it takes another prompt, once it has answered the one before."""
    usage_spans_session: bool
    """True: in a resumed session, what it states as usage includes the earlier runs."""

    def takes_prompts(self, settings: Mapping[str, str]) -> bool:
        """Say whether an agent with these settings can follow a prompt."""
        ...

    def preflight(self, settings: Mapping[str, str]) -> Preflight:
        """Say whether the binary is there and logged in (runs at most `--version`)."""
        ...

    def launch(self, job: Job) -> Launch:
        """Return what to execute for `job`."""
        ...

    def parser(self) -> Parser:
        """Return a fresh parser for one run."""
        ...
