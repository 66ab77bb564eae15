"""Running git on repositories that nobody vouches for.

Every git command of the sidecar goes through `run`. Three things keep foreign code out:

- The sidecar never uses a folder that an agent can write as its git directory, so configuration,
  hooks and drivers that an agent plants are never read (see `snapshots`).
- Local commands ignore the user's and the system's configuration; only commands that talk to
  origin (`remote=True`) read the user's, because credential helpers and ssh settings live there.
- Transports other than https, ssh and local paths are refused by git itself, here and in whatever
  it starts.
"""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

import structlog

from agentcom.model import errors

LOCAL_TIMEOUT_S: Final = 120.0
"""A local command on a very large repository; beyond it something hangs."""
REMOTE_TIMEOUT_S: Final = 1_800.0
"""A first fetch of a very large history over a slow line."""
TERM_GRACE_S: Final = 3.0
"""What git gets to take its lock files away."""
LOCK_AGE_S: Final = 10.0
"""A lock file this old was left by a git that was killed: no local command holds one so long."""
LOCK_TRIES: Final = 60
LOCK_WAIT_S: Final = 0.25
OUTPUT_BYTES_MAX: Final = 256 * 1024 * 1024
"""More output than this is a runaway command, not an answer."""
MESSAGE_CHARS_MAX: Final = 2_000
"""What of git's error output goes into an error: its end names the cause."""

log = structlog.get_logger(__name__)
NAME: Final = "AgentCom"
EMAIL: Final = "agentcom@agentcom.invalid"

_CONFIG: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.untrackedCache=false",
    "core.quotePath=false",
    "core.autocrlf=false",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.pager=cat",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "push.gpgSign=false",
    "push.followTags=false",
    "push.recurseSubmodules=no",
    "fetch.recurseSubmodules=no",
    "submodule.recurse=false",
    "diff.ignoreSubmodules=all",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.ext.allow=never",
    "advice.detachedHead=false",
    "filter.lfs.process=",
    "filter.lfs.smudge=",
    "filter.lfs.clean=",
    "filter.lfs.required=false",
)
_FLAGS: Final = tuple(word for setting in _CONFIG for word in ("-c", setting))
_ENVIRONMENT: Final = {
    "LC_ALL": "C",
    "GIT_ALLOW_PROTOCOL": "https:ssh:file",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_EDITOR": ":",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_SEQUENCE_EDITOR": ":",
    "GIT_TERMINAL_PROMPT": "0",
    "SSH_ASKPASS_REQUIRE": "never",
    "GIT_AUTHOR_NAME": NAME,
    "GIT_AUTHOR_EMAIL": EMAIL,
    "GIT_COMMITTER_NAME": NAME,
    "GIT_COMMITTER_EMAIL": EMAIL,
}
_KEPT: Final = ("GIT_SSH", "GIT_SSL_", "GIT_ASKPASS", "GIT_PROXY_")
_DROPPED: Final = ("GIT_", "AGENTCOM_")
_RACE: Final = re.compile(r"stale info|lock ref|failed to (?:lock|update)|incorrect old value")
_LOCKED: Final = re.compile(
    r"^(?!remote:)[^\n]*Unable to create '(/[^'\n]+\.lock)': File exists", re.MULTILINE
)
_CREDENTIALS: Final = re.compile(r"(\w+://)[^/@\s]+@")
_REMOTE: Final = re.compile(r"^(?:remote:\s*)+(?:error:\s*)?")
_AWAY: Final = re.compile(
    r"could not resolve|name resolution|connection (?:refused|reset|closed|timed out)|timed out"
    r"|could ?n[o']t connect|network is (?:unreachable|down)|no route to host|hung up|early eof"
    r"|returned error: (?:429|5\d\d)|rpc failed|(?:ssl|tls|gnutls)[^\n]*error",
    re.IGNORECASE,
)
_DENIED: Final = re.compile(
    r"permission denied|authentication failed|could not read (?:username|password)|access denied"
    r"|returned error: 4(?!29)\d\d|repository[^\n]* not found|host key verification failed"
    r"|authori[sz]ation error|access forbidden|(?:proper|push|write) access",
    re.IGNORECASE,
)


class GitFailed(errors.AgentComError):
    """A git command failed; its message is git's own, without credentials."""

    code = "git_failed"
    status = 502
    retryable = True

    def __init__(self, command: str, returncode: int | None, detail: str) -> None:
        how = "did not end" if returncode is None else f"failed ({returncode})"
        super().__init__(f"git {command} {how}: {_told(detail) or 'no message'}")
        self.command = command
        self.returncode = returncode
        self.detail = detail

    @property
    def away(self) -> bool:
        """Whether origin could not be reached, or said itself that it is out of order."""
        return _AWAY.search(self.detail) is not None and not self.denied

    @property
    def denied(self) -> bool:
        """Whether origin answered, and does not let us in."""
        return _DENIED.search(self.detail) is not None


class PushRejected(GitFailed):
    """Origin refused a push by its own rules, or the branch is there with other commits."""

    code = "push_rejected"
    status = 409
    retryable = False

    @property
    def raced(self) -> bool:
        """Whether somebody else's push made this one fail, so that another try can help."""
        return _RACE.search(self.detail) is not None


class MergeConflict(errors.Conflict):
    """Two lines of work changed the same places; a person or an agent must join them."""

    code = "merge_conflict"

    def __init__(self, what: str, files: Sequence[str]) -> None:
        shown = ", ".join(files[:10]) or "unknown files"
        super().__init__(f"{what} conflicts in {shown}")
        self.files = tuple(files)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitResult:
    """What a git command printed and how it ended."""

    returncode: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Standard output as text, stripped; bytes that are no UTF-8 survive a round trip."""
        return self.out.decode("utf-8", "surrogateescape").strip()

    @property
    def fields(self) -> list[str]:
        """The fields of NUL-separated output."""
        text = self.out.decode("utf-8", "surrogateescape")
        return text.removesuffix("\0").split("\0") if text else []


async def run(
    args: Sequence[str],
    cwd: Path,
    *,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,  # noqa: A002 - the name that subprocess uses
    timeout_s: float | None = None,
    check: bool = True,
    remote: bool = False,
    config: Sequence[str] = (),
) -> GitResult:
    """Run `git ARGS` in `cwd` without a shell and return what it printed.

    `remote` lets git read the user's configuration, for credentials. `config` are settings
    (`name=value`) over ours: filters, which may take as long as a remote. A time-out or a
    cancellation kills git and everything it started.

    Raises:
        GitFailed: with `check`, it ended with another code than 0; always, it did not end.
    """
    words = [word for setting in config for word in ("-c", setting)]

    async def once() -> GitResult:
        return await _run_once(
            args, cwd, words=words, env=env, input=input, timeout_s=timeout_s, remote=remote
        )

    result = await once()
    for _ in range(LOCK_TRIES):
        # What a remote says must never name a file of this machine.
        lock = None if remote or result.returncode == 0 else _own_lock(result.err, cwd, env or {})
        if lock is None:
            break
        drop_old_lock(lock)
        await asyncio.sleep(LOCK_WAIT_S)
        result = await once()
    if check and result.returncode != 0:
        raise GitFailed(args[0], result.returncode, result.err)
    return result


def _own_lock(message: str, cwd: Path, env: Mapping[str, str]) -> Path | None:
    """Return the lock file in the way, if it lies in the repository that the command used."""
    found = _LOCKED.search(message)
    if found is None:
        return None
    lock = Path(found[1])
    lock = lock.parent.resolve() / lock.name
    index = env.get("GIT_INDEX_FILE")
    if index is not None and lock == Path(f"{Path(index).resolve()}.lock"):
        return lock
    inside = cwd / ".git"
    git_dir = Path(env.get("GIT_DIR") or (inside if inside.is_dir() else cwd)).resolve()
    return lock if lock.is_relative_to(git_dir) else None


def drop_old_lock(lock: Path) -> None:
    """Remove the lock file of a git that is gone."""
    with contextlib.suppress(FileNotFoundError):
        if time.time() - lock.stat().st_mtime > LOCK_AGE_S:
            lock.unlink()


async def _run_once(
    args: Sequence[str],
    cwd: Path,
    *,
    words: Sequence[str],
    env: Mapping[str, str] | None,
    input: bytes | None,  # noqa: A002 - the name that subprocess uses
    timeout_s: float | None,
    remote: bool,
) -> GitResult:
    limit_s = timeout_s or (REMOTE_TIMEOUT_S if remote or words else LOCAL_TIMEOUT_S)
    # Files, not pipes: an ssh master that stays behind would hold a pipe open for minutes.
    with TemporaryFile() as stdin, TemporaryFile() as out, TemporaryFile() as err:
        stdin.write(input or b"")
        stdin.seek(0)
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *_FLAGS,
                *words,
                *args,
                cwd=cwd,
                env=_environment(env, remote=remote),
                stdin=stdin,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        except FileNotFoundError as missing:
            raise GitFailed(args[0], None, f"{missing.filename} is missing") from None
        try:
            async with asyncio.timeout(limit_s):
                returncode = await process.wait()
        except TimeoutError:
            raise GitFailed(args[0], None, f"stopped after {limit_s:g} s") from None
        finally:
            await _kill(process)
        log.debug("git.ran", verb=args[0], returncode=returncode)
        return _result(args[0], returncode, out, err)


def _told(detail: str) -> str:
    """Return what git said in one line, without its advice."""
    lines = [_REMOTE.sub("", line).strip() for line in detail.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("hint:"))


def redact(text: str) -> str:
    """Return `text` without the user and password of any address in it."""
    return _CREDENTIALS.sub(r"\1***@", text)


def _environment(extra: Mapping[str, str] | None, *, remote: bool) -> dict[str, str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(_KEPT) or not name.startswith(_DROPPED)
    }
    environment |= _ENVIRONMENT
    if not remote:
        environment["GIT_CONFIG_GLOBAL"] = os.devnull
    return environment | dict(extra or {})


def _result(command: str, returncode: int, out: IO[bytes], err: IO[bytes]) -> GitResult:
    size = out.seek(0, os.SEEK_END)
    if size > OUTPUT_BYTES_MAX:
        raise GitFailed(command, returncode, f"it printed {size} bytes")
    out.seek(0)
    err.seek(max(0, err.seek(0, os.SEEK_END) - 2 * MESSAGE_CHARS_MAX))
    message = redact(err.read().decode("utf-8", "replace").strip())[-MESSAGE_CHARS_MAX:]
    return GitResult(returncode=returncode, out=out.read(), err=message)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End what is left of a git process and of the helpers in its group.

    First kindly: git takes its lock files away at SIGTERM, and leaves them behind at SIGKILL.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TERM_GRACE_S):
                await process.wait()
