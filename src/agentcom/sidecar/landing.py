"""Landing: the verified commit enters the base branch, exactly once.

One atomic push moves the base branch and the task's fence, each only if origin still has what we
saw. Whoever was overtaken loses that push; whoever repeats a landing finds it done.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from agentcom.model import errors, refs
from agentcom.model.ids import Fence, TaskId
from agentcom.sidecar import fences, git, repositories, trees
from agentcom.sidecar.fences import Seen
from agentcom.sidecar.repositories import Cache, Move

LAND_ATTEMPTS_MAX: Final = 5
"""Races lost in a row on one base branch, before the hub gives the landing a new turn."""
BASE_FILE_BYTES_MAX: Final = 262_144
"""A configuration file; more is a mistake."""

_PROTECTED: Final = ".agentcom.toml"
_TEST_FOLDERS: Final = frozenset({"test", "tests", "spec", "specs", "__tests__", "testing"})
_TEST_NAMES: Final = (
    "test_*.*",
    "*_test.*",
    "*_tests.*",
    "*.test.*",
    "*.spec.*",
    "*_spec.*",
    "*Test.*",
    "*Tests.*",
    "*Spec.*",
    "conftest.py",
)

Verify = Callable[[Path], Awaitable[bool]]
"""Checks a clean checkout; true if the commit may land."""


class VerifyFailed(errors.AgentComError):
    """The work was good on its own base, and is not on today's."""

    code = "verify_failed"
    status = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """The commit that is in the base branch, and how it came there."""

    commit: str
    base_before: str
    rebased: bool


async def land(  # noqa: D417 - the rest says itself
    cache: Cache,
    *,
    task: TaskId,
    fence: Fence,
    commit: str,
    base_branch: str,
    verify: Verify | None = None,
) -> Landed:
    """Bring `commit` into the base branch, rebased if that moved; again and again is once.

    Args:
        verify: runs on the rebased commit, for the checks were made on another base.

    Raises:
        Stale: a newer attempt has the task.
        MergeConflict: the base changed the same places.
        VerifyFailed: the checks fail on the new base.
        PushRejected: origin does not allow it, or the race was lost too often.
    """
    await repositories.ensure(cache, [commit])
    lost: git.GitFailed | None = None
    before, raced = None, False
    for tries in range(LAND_ATTEMPTS_MAX + 1):
        seen = await fences.look(cache, task, base_branch)
        done = await _done(cache, seen, fence, commit)
        if done is not None:
            return done
        if lost is not None and (tries == LAND_ATTEMPTS_MAX or not (raced or before != seen)):
            raise lost
        candidate = await _onto(cache, seen.base, commit)
        rebased = candidate != commit
        if rebased and verify is not None:
            await _check(cache, candidate, verify)
        try:
            await _push(cache, task, base_branch, seen, candidate)
        except git.GitFailed as failure:
            # It may have arrived all the same: look again before anything else.
            lost, before = failure, seen
            raced = isinstance(failure, git.PushRejected) and failure.raced
        else:
            return Landed(commit=candidate, base_before=seen.base, rebased=rebased)
    raise AssertionError("the loop returns or raises")


async def protected_changes(cache: Cache, base: str, commit: str) -> list[str]:
    """Return why a person must look at `base...commit` before it lands; empty if nobody need."""
    args = ("diff-tree", "-r", "-z", "-M", "--name-status", "--merge-base")
    fields = (await cache.run(*args, refs.check_commit(base), refs.check_commit(commit))).fields
    reasons = []
    at = 0
    while at < len(fields):
        status, path = fields[at], fields[at + 1]
        moved = status.startswith(("R", "C"))
        target = fields[at + 2] if moved else path
        at += 3 if moved else 2
        if _PROTECTED in {path.lower(), target.lower()}:
            reasons.append(f"changes {_PROTECTED}")
        if status == "D" and is_test(path):
            reasons.append(f"deletes the test {path}")
        if status.startswith("R") and is_test(path) and not is_test(target):
            reasons.append(f"moves the test {path} to {target}")
    return reasons


def is_test(path: str) -> bool:
    """Tell whether a path looks like a test, in the layouts of common languages."""
    place = PurePosixPath(path)
    folders = {part.lower() for part in place.parts[:-1]}
    return bool(folders & _TEST_FOLDERS) or any(place.match(name) for name in _TEST_NAMES)


async def read_base_file(cache: Cache, base_commit: str, path: str) -> str | None:
    """Return a text file as the base has it; None if there is none, or if it is a link.

    Raises:
        TooLarge: it is no configuration file.
    """
    if path.startswith("/") or ".." in PurePosixPath(path).parts:
        return None
    args = ("ls-tree", "-z", "-l", "--full-tree", refs.check_commit(base_commit), "--", path)
    entries = (await cache.run(*args)).fields
    if len(entries) != 1:
        return None
    meta, _, name = entries[0].partition("\t")
    mode, _, oid, size = meta.split()
    if name != path or not mode.startswith("100"):
        return None
    if int(size) > BASE_FILE_BYTES_MAX:
        raise errors.TooLarge(f"{path} has {size} bytes, more than {BASE_FILE_BYTES_MAX}")
    blob = await cache.run("cat-file", "blob", oid)
    return blob.out.decode("utf-8", "replace")


async def _done(cache: Cache, seen: Seen, fence: Fence, commit: str) -> Landed | None:
    """Return the landing if it happened already.

    Raises:
        Stale: the fence names a newer attempt, or a commit that was taken back.
    """
    if seen.landed is not None:
        if await repositories.contains(cache, seen.base, seen.landed):
            landed = seen.landed
            return Landed(commit=landed, base_before=seen.base, rebased=landed != commit)
        raise errors.Stale("the task landed and was taken back: a new attempt must claim it")
    if seen.fence is not None and seen.fence > fence:
        raise errors.Stale(f"attempt {seen.fence.attempt} has the task: nothing was landed")
    if await repositories.contains(cache, seen.base, commit):
        return Landed(commit=commit, base_before=seen.base, rebased=False)
    return None


async def _onto(cache: Cache, base: str, commit: str) -> str:
    """Return `commit` if it is ahead of `base`, else its changes put on top of it.

    Raises:
        MergeConflict: both changed the same places.
    """
    if await repositories.contains(cache, commit, base):
        return commit
    async with trees.checkout(cache, commit) as where:
        args = ("rebase", "--quiet", "--no-autosquash", "--no-stat", "--no-verify", base)
        done = await git.run(args, where, check=False)
        if done.returncode != 0:
            raise await _conflict(where, done)
        head = (await git.run(("rev-parse", "--verify", "HEAD"), where)).text
        # From a repository that only we wrote: its new objects move into the cache.
        args = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", str(where / ".git"))
        await cache.run(*args, head)
    return head


async def _conflict(where: Path, done: git.GitResult) -> errors.AgentComError:
    args: Sequence[str] = ("diff", "--name-only", "--diff-filter=U", "-z")
    files = (await git.run(args, where, check=False)).fields
    if not files:
        return git.GitFailed("rebase", done.returncode, done.err)
    return git.MergeConflict("the base branch", files)


async def _check(cache: Cache, commit: str, verify: Verify) -> None:
    async with trees.checkout(cache, commit) as where:
        if not await verify(where):
            raise VerifyFailed("the checks fail on top of the moved base: see the results")


async def _push(cache: Cache, task: TaskId, base_branch: str, seen: Seen, commit: str) -> None:
    # Both refs really move: a lease on a ref that stays as it is would not be sent.
    await repositories.push(
        cache,
        Move(ref=f"refs/heads/{base_branch}", new=commit, old=seen.base),
        Move(ref=refs.fence_ref(task), new=commit, old=seen.commit),
    )
