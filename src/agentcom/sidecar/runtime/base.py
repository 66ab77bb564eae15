"""What every runtime driver is: a pure map from a job to argv, and from output lines to events.

A driver starts nothing and reads no clock. `process.py` runs what `launch` returns under one
supervisor process per attempt and feeds the lines of its output to the parser.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec

from agentcom.model.failure import FailureClass


class Stop(StrEnum):
    """How a turn ended (the Agent Client Protocol's set, and ours)."""

    END_TURN = "end_turn"
    MAX_TOKENS = "max_tokens"
    MAX_TURN_REQUESTS = "max_turn_requests"
    REFUSAL = "refusal"
    CANCELLED = "cancelled"
    ERROR = "error"
    NO_PROGRESS = "no_progress"
    DEADLINE = "deadline"
    MEMORY = "memory"
    """More memory than it may use, and below more processes."""
    PROCESSES = "processes"


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
    """Exactly what to execute; no shell is involved."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    cwd: str
    files: Sequence[File] = ()
    talks: bool = False
    """False: stdin is the null device. True: the runtime's parser is a `Talker`."""
    opening: bytes = b""
    """What its talker has to know of the job; kept beside the run, for a restarted sidecar."""
    brief: Sequence[str] = ()
    """How lines begin of which only the start is kept: they show no more than that it goes on."""
    sockets: str = ""
    """The variable that names a folder for sockets, which is made for the run and goes with it: no
    path of one may be longer than some hundred bytes, and the attempt's folder is."""
    provider_log: str = ""
    """The file below the home where the program logs what its provider says, by `{session}`."""
    boxed: bool = False
    """True: the program is a sandbox around the agent's."""


class Say(msgspec.Struct, frozen=True):
    """Bytes for an agent's standard input, written once for each `key` of a run.

    A key is printable ASCII without a space, at most 200 characters.
    """

    key: str
    data: bytes


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


class Streamed(msgspec.Struct, frozen=True, tag="streamed"):
    """A piece of a text that comes whole later: progress, and nothing to show."""


class PlanEntry(msgspec.Struct, frozen=True):
    """One step of a plan; `status` is pending, in_progress or completed."""

    text: str
    status: str = "pending"


class Plan(msgspec.Struct, frozen=True, tag="plan"):
    """What the agent means to do; replaces the plan before."""

    entries: Sequence[PlanEntry]


class Diff(msgspec.Struct, frozen=True, tag="diff"):
    """A tool changed a file."""

    path: str


class PermissionAsked(msgspec.Struct, frozen=True, tag="permission.asked"):
    """The agent may not go on with a tool before someone allows it."""

    id: str
    title: str
    open: bool = False
    """True: it waits for `Talker.permit`; False: the agent's setting decides."""


class PermissionAnswered(msgspec.Struct, frozen=True, tag="permission.answered"):
    """The agent was told whether it may."""

    id: str
    allowed: bool


class Heard(msgspec.Struct, frozen=True, tag="heard"):
    """The agent has taken up what was said under `key` while it worked, or refused to."""

    key: str
    taken: bool = True


class Cost(msgspec.Struct, frozen=True, tag="cost"):
    """What the session has cost by now, as the agent reckons; the hub has its own prices."""

    amount: float
    currency: str = "USD"


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
    | Streamed
    | Plan
    | Diff
    | PermissionAsked
    | PermissionAnswered
    | Heard
    | Cost
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
    said: str = ""
    """What it had used of what it may use, if that ended it."""


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


@runtime_checkable
class Talker(Parser, Protocol):
    """The parser of an agent that is also talked to. Pure, like every parser.

    What it has to say depends only on `begin` and on the lines read since, in their order: a
    sidecar that starts again begins and reads once more, and says the same under the same keys.
    What comes from elsewhere (`prompt`, `steer`, `permit`) has its key from whoever brings it.
    """

    def begin(self, opening: bytes) -> None:
        """Take what `Launch.opening` was. Without it the lines are only read."""
        ...

    def drain(self) -> Sequence[Say]:
        """Return what is to be said now: asked at the start, and after each line."""
        ...

    def prompt(self, number: int, text: str) -> Say:
        """Return what begins turn `number` (from 2) in the session, once a turn has ended."""
        ...

    def asked(self, number: int) -> None:
        """Take note that the agent has the prompt of that turn: the run is not over without it."""
        ...

    def steer(self, key: str, text: str) -> Say | None:
        """Return what brings a word into the running turn; None if this agent takes none.

        `Heard` with that key tells what came of it.
        """
        ...

    def permit(self, request: str, *, allow: bool) -> Say | None:
        """Return the answer to an open `PermissionAsked`; None if it is not open any more."""
        ...

    def farewell(self) -> bytes:
        """Return what asks the agent to break off its turn; empty while there is none."""
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
