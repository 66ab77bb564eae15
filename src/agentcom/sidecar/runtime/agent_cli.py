"""What the drivers of agent command line programs share: prompt, environment, version, failures.

Everything here is pure except `probe`, which runs `--version` for a preflight.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from agentcom.model import errors
from agentcom.model.failure import FailureClass
from agentcom.sidecar.runtime import quota
from agentcom.sidecar.runtime.base import Exit, Job, Preflight, Stop

PROMPT_BYTES_MAX: Final = 16 << 10
"""Longer prompts go by file; Linux refuses one argument over 128 KiB."""

LINE_BYTES_MAX: Final = 8 << 20
"""A longer line is not decoded: no record that matters is that long."""

RAW_CHARACTERS_MAX: Final = 2_000
"""Of a line that is no event only this much is kept."""

MESSAGE_CHARACTERS_MAX: Final = 4_000
"""An error or summary longer than this is cut."""

VERSION_TIMEOUT_S: Final = 90
"""The largest program loads for 15 s of processor time before it says its version."""

PROGRAMS_MAX: Final = 64
"""Programs whose answer is remembered: agent CLIs and toolchains of one computer."""

DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"

URL_VARIABLE: Final = "AGENTCOM_MCP_URL"
TOKEN_VARIABLE: Final = "AGENTCOM_MCP_TOKEN"  # noqa: S105 - the name of a variable
FILE_VARIABLE: Final = "AGENTCOM_MCP_FILE"
"""Names the file that holds the token: some agents keep from their shells what is named a token."""

Json = Mapping[str, Any]

_STATUS: Final = re.compile(
    r"(?:status|API Error:?|\bHTTP)\W{0,3}(\d{3})\b|\((\d{3})\)", re.IGNORECASE
)

_WORDS: Final[Mapping[FailureClass, Sequence[str]]] = {
    FailureClass.CONTEXT_FULL: (
        r"context.(window|length)",
        r"prompt is too long",
        r"maximum context",
    ),
    FailureClass.QUOTA: quota.WORDS,
    FailureClass.RATE_LIMIT: (r"rate.?limit", r"too many requests"),
    FailureClass.AUTH: (
        r"authenticat",
        r"api[ _]key",
        r"unauthorized",
        r"not logged in",
        r"/login",
        r"token (has )?expired",
        r"oauth",
        r"access token",
        r"missing environment variable",
    ),
    FailureClass.REFUSED: (r"usage polic", r"flagged", r"content.policy", r"violat"),
    FailureClass.MODEL_UNAVAILABLE: (
        r"high demand",
        r"overloaded",
        r"server.?error",
        r"server had an error",
        r"stream (disconnected|closed)",
        r"connection",
        r"error sending request",
        r"timed? ?out",
        r"unavailable",
        r"at capacity",
        r"model.{0,40}(not found|not exist)",
    ),
}
"""How providers and programs word each failure; the first class that fits wins."""

_BY_WORDS: Final = tuple(
    (failure, re.compile("|".join(words), re.IGNORECASE)) for failure, words in _WORDS.items()
)


_VERSION: Final = re.compile(rb"\d+(\.\d+)+([\w.-]*\w)?")
_NO_SWITCHES: Final[Mapping[str, str]] = {}


class Version(msgspec.Struct, frozen=True):
    """What `--version` said; `problem` when it did not."""

    text: str = ""
    problem: str = ""


def prompt_argument(job: Job) -> str:
    """Return the prompt as one argument: itself, or a fixed sentence that names the task file."""
    plain = not job.prompt.startswith("-") and "\0" not in job.prompt and job.prompt.strip()
    if plain and len(job.prompt.encode()) <= PROMPT_BYTES_MAX:
        return job.prompt
    return f"Read the task file `{job.task_file}` and do what it says."


def environment(job: Job, *, home: str) -> dict[str, str]:
    """Return the variables that every agent gets, over those the job allows."""
    return {
        "PATH": DEFAULT_PATH,
        "LANG": "C.UTF-8",
        **job.environment,
        "HOME": home,
        "TERM": "dumb",
        "CI": "1",
        "DO_NOT_TRACK": "1",
        "OTEL_SDK_DISABLED": "true",
        **_access(job),
    }


def _access(job: Job) -> dict[str, str]:
    if job.access is None:
        return {}
    access = job.access
    return {URL_VARIABLE: access.url, TOKEN_VARIABLE: access.token, FILE_VARIABLE: access.file}


def decode(line: bytes) -> Json | None:
    """Return the record in `line`, or None if it is a log line; never raises."""
    if len(line) > LINE_BYTES_MAX or not line.lstrip().startswith(b"{"):
        return None
    try:
        record = msgspec.json.decode(line)
    except (ValueError, RecursionError):  # also invalid UTF-8
        return None
    return record if isinstance(record, dict) else None


def raw_text(line: bytes) -> str:
    """Return what is kept of a line that is no event."""
    return line[: RAW_CHARACTERS_MAX * 4].decode("utf-8", "replace").rstrip()[:RAW_CHARACTERS_MAX]


def record(value: object) -> Json:
    """Return `value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def records(value: object) -> list[Json]:
    """Return the objects in a list."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def text(value: object) -> str:
    """Return a text field, cut to what is kept."""
    return value[:MESSAGE_CHARACTERS_MAX] if isinstance(value, str) else ""


def together(turns: Sequence[str]) -> str:
    """Return what the turns of a run ended with, cut to what is kept."""
    return "\n\n".join(filter(None, turns))[:MESSAGE_CHARACTERS_MAX]


def count(value: object) -> int:
    """Return a token count; anything that is none counts nothing."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def classify(message: str, status: int | None = None) -> FailureClass:
    """Return the class of an error by its HTTP status, else by its words."""
    worded = next((failure for failure, words in _BY_WORDS if words.search(message)), None)
    match status or _status_in(message):
        case 401 | 403:
            return FailureClass.AUTH
        case 402:
            return FailureClass.QUOTA
        case 429:
            return FailureClass.QUOTA if worded is FailureClass.QUOTA else FailureClass.RATE_LIMIT
        case 404:
            return FailureClass.MODEL_UNAVAILABLE
        case int(code) if code >= 500:  # noqa: PLR2004 -- server errors by RFC 9110
            return FailureClass.MODEL_UNAVAILABLE
        case _:
            return worded or FailureClass.AGENT


def ended_without_record(ended: Exit, tail: Sequence[str]) -> tuple[FailureClass, str]:
    """Judge a run whose stream has no final record."""
    said = f": {tail[-1]}" if tail else ""
    match ended.stop:
        case Stop.NO_PROGRESS:
            return FailureClass.NO_PROGRESS, "stopped: no progress"
        case Stop.DEADLINE:
            return FailureClass.DEADLINE, "stopped: the deadline has passed"
        case Stop.CANCELLED:
            return FailureClass.AGENT, "stopped on request"
        case _:
            pass
    if ended.signal is not None:
        return FailureClass.CRASHED, f"killed by signal {ended.signal}{said}"
    if ended.code in {126, 127}:
        return FailureClass.NOT_INSTALLED, f"the program did not start{said}"
    known = classify(tail[-1]) if tail else FailureClass.AGENT
    failure = FailureClass.CRASHED if known is FailureClass.AGENT else known
    return failure, f"exit {ended.code} without a final record{said}"


def probe(binary: str, *words: str, switches: Mapping[str, str] = _NO_SWITCHES) -> Version:
    """Run `binary --version` (or `words`) with a bound, in an empty home: no user file changes.

    `switches` are variables that keep it quiet. A program that has answered is asked again only
    when its file has changed.
    """
    found = shutil.which(binary)
    if found is None:
        return Version(problem=f"{binary} is not on PATH")
    argv = (found, *(words or ("--version",)))
    try:
        seen = os.stat(found)  # noqa: PTH116 -- follows links: the program, not its name
        return _asked(argv, tuple(switches.items()), seen.st_mtime_ns, seen.st_size, seen.st_ino)
    except OSError as error:
        return Version(problem=f"{found} does not start: {error.strerror}")
    except _Unanswered as error:
        return Version(problem=str(error))


class _Unanswered(Exception):
    """The program did not say its version; raised, since only answers are remembered."""


@lru_cache(maxsize=PROGRAMS_MAX)
def _asked(
    argv: tuple[str, ...], switches: tuple[tuple[str, str], ...], *_identity: int
) -> Version:
    call = " ".join(argv)
    with tempfile.TemporaryDirectory(prefix="agentcom-version-") as home:
        try:
            done = subprocess.run(  # noqa: S603 -- the operator names the binary; no shell
                argv,
                env={
                    "PATH": os.environ.get("PATH", DEFAULT_PATH),
                    "HOME": home,
                    "TERM": "dumb",
                    "LANG": "C.UTF-8",
                    **dict(switches),
                },
                cwd=home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=VERSION_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _Unanswered(f"`{call}` gave no answer in {VERSION_TIMEOUT_S} s") from None
    # A log may name versions of other things: it counts only where nothing else was said.
    said = _VERSION.search(done.stdout) or _VERSION.search(done.stderr)
    if done.returncode != 0 or said is None:
        raise _Unanswered(f"`{call}` ended with exit {done.returncode}")
    return Version(said.group().decode())


def ready(
    runtime: str, version: str, capabilities: Sequence[str], account: str | None = None
) -> Preflight:
    """Return the good news."""
    return Preflight(
        runtime=runtime, ready=True, version=version, capabilities=capabilities, account=account
    )


def server_root(base_url: str) -> str:
    """Return the root of a model server, whether or not the setting ends in `/v1`."""
    root = base_url.rstrip("/").removesuffix("/v1")
    if not root.startswith(("http://", "https://")):
        raise errors.InvalidInput("base_url", "a URL that starts with http:// or https://")
    return root


def _status_in(message: str) -> int | None:
    found = _STATUS.search(message)
    return int(found.group(1) or found.group(2)) if found else None
