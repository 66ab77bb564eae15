"""The clone cache: one bare repository per address, private to the sidecar.

No agent works in it, so its configuration is ours; worktrees borrow its objects (see `trees`).
Nothing here ever deletes objects. A fetch that fails is an error, never a stale tree.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import structlog

from agentcom.model import errors, refs
from agentcom.sidecar import git

EMPTY_TREE: Final = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""The hash of the tree without files (git's own constant for SHA-1 repositories)."""
LOCK_TIMEOUT_S: Final = git.REMOTE_TIMEOUT_S
"""Another process may be in the middle of a first fetch."""
_LOCK_POLL_S: Final = 0.02
"""Only while another process holds the lock."""
_STALE_LOCK_S: Final = 3_600.0
"""No git command of ours runs this long: its lock file is left from a crash."""
REMOTE_TRIES_MAX: Final = 4
"""Questions to an origin whose answer may be another soon, 1, 2 and 4 s apart."""
AWAY_TRIES_MAX: Final = 24
"""Questions to an origin that cannot be reached: some ten minutes, then a person is told."""
RETRY_S: Final = 1.0
"""The first pause; each further one is twice as long."""
RETRY_FACTOR_MAX: Final = 32
"""No pause is longer than this many first ones."""

HASH: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CONFIG: Final = """[core]
\trepositoryformatversion = 0
\tbare = true
\tfsync = committed,loose-object
\tfsyncMethod = batch
[gc]
\tauto = 0
"""
EXCLUDES: Final = """# What agents' programs leave behind; never part of a result.
.aider*
.agentcom/
.agentcom-*
.claude/settings.local.json
.claude/worktrees/
.codex/
.gemini/tmp/
.openhands/
.vibe/
"""
ADDRESS: Final = "address"
"""The file beside a clone cache that names its origin: the folder's own name does not."""

T = TypeVar("T")
Say = Callable[[str], Awaitable[None]]
"""Tells a person what git said."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A bare copy of one repository that only the sidecar writes."""

    root: Path
    url: str
    path: Path

    async def run(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        data: bytes | None = None,
        check: bool = True,
        remote: bool = False,
        config: Sequence[str] = (),
    ) -> git.GitResult:
        """Run git with this cache as its only repository; `config` are settings over ours."""
        return await git.run(
            args,
            self.path,
            env={"GIT_DIR": str(self.path), **(env or {})},
            input=data,
            check=check,
            remote=remote,
            config=config,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One ref that a push sets: to `new` ("" deletes it), if origin still has `old`.

    `old` is "" for a ref that must not exist yet, and None for a plain push that only goes forward.
    """

    ref: str
    new: str
    old: str | None


@dataclass(slots=True)
class _Flight:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    started: int = 0
    succeeded: int = 0


class Repositories:
    """All clone caches below one folder of the sidecar."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._flights: dict[str, _Flight] = {}

    def cache(self, url: str) -> Cache:
        """Return the cache of `url` as it is, without asking origin.

        Raises:
            UnsafeRepository: the address is none that we use.
        """
        name = hashlib.sha256(refs.check_repository(url).encode()).hexdigest()[:32]
        return Cache(root=self._root, url=url, path=self._root / "caches" / name / "repo.git")

    async def fetch(self, url: str) -> Cache:
        """Bring every branch of origin into its cache, agents' branches excepted.

        Callers at the same time share a fetch, but only one that began after they asked.

        Raises:
            UnsafeRepository: the address is none that we use.
            GitFailed: origin did not answer, or refused.
        """
        cache = self.cache(url)
        flight = self._flights.setdefault(url, _Flight())
        asked = flight.started
        async with flight.lock:
            if flight.succeeded <= asked:
                if flight.started == 0:
                    await asyncio.to_thread(_drop_stale_locks, cache.path)
                # Git leaves what it had of a fetch that was killed, or that filled the disk.
                await asyncio.to_thread(_drop_old, cache.path.glob("objects/pack/tmp_*"))
                flight.started += 1
                await _fetch_branches(cache)
                flight.succeeded = flight.started
        return cache

    async def default_branch(self, url: str) -> str:
        """Return the branch that origin's HEAD names.

        Raises:
            NotFound: origin has none, for it is empty.
        """
        refs.check_repository(url)
        args = ("ls-remote", "--symref", "--end-of-options", url, "HEAD")
        answer = (await git.run(args, Path("/"), remote=True)).text
        for line in answer.splitlines():
            if line.startswith("ref: refs/heads/"):
                return refs.check_branch(line.split()[1].removeprefix("refs/heads/"))
        raise errors.NotFound("origin has no default branch: push a first commit")


async def fetch(cache: Cache, *refspecs: str) -> None:
    """Bring `refspecs` from origin, and drop locally what is gone there.

    Raises:
        GitFailed: origin did not answer, refused, or lacks a ref that is named without a star.
    """
    flags = ("--quiet", "--prune", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
    args = ("fetch", *flags, "--end-of-options", cache.url, *refspecs)
    async with locked(cache.path.parent / "lock"):
        try:
            await cache.run(*args, remote=True)
        except git.GitFailed:
            if not await _unlocked(cache.path):
                raise
            await cache.run(*args, remote=True)


async def patiently(
    ask: Callable[[], Awaitable[T]],
    *,
    known: bool = False,
    hurried: bool = False,
    say: Say | None = None,
) -> T:
    """Return what `ask` gives; while only the way to origin is broken, ask again and again.

    What cannot be reached is given ten minutes: an outage shall not cost an agent's work. `known`
    says that origin answered before, so whatever is wrong there passes, unless it lets us in no
    more; `hurried`, that nothing is worth waiting for. `say` is told of each try that failed.

    Raises:
        GitFailed: origin refused, or did not answer in time or in any of the tries.
    """
    tries = 0
    while True:
        try:
            return await ask()
        except git.GitFailed as failure:
            outage = failure.away or (known and not failure.denied)
            tries_max = AWAY_TRIES_MAX if outage and not hurried else REMOTE_TRIES_MAX
            tries += 1
            if not may_pass(failure) or tries >= tries_max:
                raise
            log.warning("origin.failed", reason=failure.message)
            if say is not None:
                await say(failure.message)
        await pause(tries - 1)


def may_pass(failure: git.GitFailed) -> bool:
    """Tell whether the same command may succeed soon; one that hung was given its time."""
    return failure.retryable and failure.returncode is not None


async def pause(tries: int) -> None:
    """Wait before the next try, twice as long as before the last one, up to half a minute."""
    await asyncio.sleep(RETRY_S * min(1 << tries, RETRY_FACTOR_MAX))


async def tidy(cache: Cache) -> None:
    """Pack what piled up; nothing is dropped, for worktrees borrow objects from here."""
    async with locked(cache.path.parent / "lock"):
        await cache.run("repack", "-a", "-d", "--keep-unreachable", "--quiet", remote=True)
        await cache.run("pack-refs", "--all")


async def ensure(cache: Cache, commits: Sequence[str]) -> None:
    """Make sure the cache has `commits`, from origin if need be.

    Raises:
        GitFailed: origin does not have one of them.
    """
    if not commits:
        return
    names = "".join(f"{refs.check_commit(commit)}\n" for commit in commits)
    found = await cache.run("cat-file", "--batch-check", data=names.encode())
    missing = [line.split()[0] for line in found.text.splitlines() if line.endswith(" missing")]
    if missing:
        await fetch(cache, *missing)


async def resolve(cache: Cache, ref: str) -> str | None:
    """Return the commit that a branch of the cache, by its full name, stands at, or None."""
    loose = read(cache.path / ref) or ""
    if HASH.fullmatch(loose):
        return loose  # most are files of their own, and git need not be asked
    found = await cache.run(
        "rev-parse", "--quiet", "--verify", "--end-of-options", f"{ref}^{{commit}}", check=False
    )
    return found.text or None


async def contains(cache: Cache, tip: str, commit: str) -> bool:
    """Tell whether `commit` is `tip` or in its past."""
    if tip == commit:
        return True
    asked = await cache.run("merge-base", "--is-ancestor", commit, tip, check=False)
    return asked.returncode == 0


async def push(cache: Cache, *moves: Move) -> None:
    """Set refs on origin, all or none.

    Raises:
        PushRejected: origin has something else than expected, or does not allow it.
        GitFailed: the outcome is unknown, or origin could not be reached.
    """
    leases = [f"--force-with-lease={move.ref}:{move.old}" for move in moves if move.old is not None]
    args = ["push", "--porcelain", "--no-verify", *leases]
    if len(moves) > 1:
        args.append("--atomic")
    specs = [f"{move.new}:{move.ref}" for move in moves]
    done = await cache.run(*args, "--end-of-options", cache.url, *specs, check=False, remote=True)
    if done.returncode == 0:
        return
    refused = [line[1:].strip() for line in done.text.splitlines() if line.startswith("!")]
    if refused:
        detail = git.redact("; ".join(refused)) + f"\n{done.err}"
        raise git.PushRejected("push", done.returncode, detail)
    raise git.GitFailed("push", done.returncode, done.err)


def skeleton(git_dir: Path, *, config: str, head: str, borrows: Path | None = None) -> None:
    """Make an empty repository by hand: no template, so no hooks, and no process."""
    for name in ("objects/info", "objects/pack", "refs/heads", "info"):
        (git_dir / name).mkdir(parents=True, exist_ok=True)
    write(git_dir / "config", config)
    write(git_dir / "info/exclude", EXCLUDES)
    if borrows is not None:
        write(git_dir / "objects/info/alternates", f"{borrows}\n")
    write(git_dir / "HEAD", f"{head}\n")


def read(path: Path, size_max: int = 4_096) -> str | None:
    """Return a short file's text; None for what is no plain file, without waiting for it."""
    try:
        handle = os.open(path, _FLAGS)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        return file.read(size_max).decode("utf-8", "replace").strip() or None


def write(path: Path, text: str) -> None:
    """Replace a small file whole, unless it holds `text` already."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8", errors="replace") == text:
            return
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


@contextlib.asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Hold `path` against every other task and process of this computer.

    Raises:
        Timeout: somebody else holds it for too long.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            async with asyncio.timeout(LOCK_TIMEOUT_S):
                while not _try_lock(descriptor):  # noqa: ASYNC110 - no event crosses processes
                    await asyncio.sleep(_LOCK_POLL_S)
        except TimeoutError:
            raise errors.Timeout("the repository is in use by another process") from None
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _fetch_branches(cache: Cache) -> None:
    if not (cache.path / "HEAD").exists():
        async with locked(cache.path.parent / "lock"):
            skeleton(cache.path, config=_CONFIG, head="ref: refs/heads/none")
            await cache.run("hash-object", "-t", "tree", "-w", "--stdin", data=b"")
    write(cache.path.parent / ADDRESS, f"{cache.url}\n")
    await fetch(cache, f"+refs/heads/*:{refs.ORIGIN}/*", "^refs/heads/agent/*")


def _drop_stale_locks(path: Path) -> None:
    # After a power failure git's lock files stay, and each refuses all work from then on.
    _drop_old(_locks(path))


def _drop_old(paths: Iterable[Path]) -> None:
    oldest = time.time() - _STALE_LOCK_S
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()


async def _unlocked(path: Path) -> bool:
    """Tell whether lock files may have been the cause of a failure, and are gone by now.

    A command that talks to origin prints what origin says, so its message is no witness.
    """
    locks = await asyncio.to_thread(_locks, path)
    for _ in range(git.LOCK_TRIES if locks else 0):
        for lock in locks:
            git.drop_old_lock(lock)
        if not any(lock.exists() for lock in locks):
            return True
        await asyncio.sleep(git.LOCK_WAIT_S)
    return False


def _locks(path: Path) -> list[Path]:
    return [*path.glob("*.lock"), *(path / "refs").rglob("*.lock")]
