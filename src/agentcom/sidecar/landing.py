"""Landing: the verified commit enters the base branch, exactly once.

One atomic push moves the base branch and the task's fence, each only if origin still has what we
saw. Whoever was overtaken loses that push; whoever repeats a landing finds it done.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import structlog

from agentcom.model import errors, project_file, refs
from agentcom.model.ids import Fence, TaskId
from agentcom.model.project_file import ProjectFile
from agentcom.sidecar import fences, git, joining, known, lfs, repositories, snapshots, trees
from agentcom.sidecar.fences import Seen
from agentcom.sidecar.repositories import Cache, Move

LAND_ATTEMPTS_MAX: Final = 5
"""Races lost in a row on one base branch, before the hub gives the landing a new turn."""
BASE_FILE_BYTES_MAX: Final = 262_144
"""A configuration file; more is a mistake."""
PROJECT_FILES_MAX: Final = 64
"""Commits whose file is remembered as it was understood."""

Verify = Callable[[Path, str, str], Awaitable[bool]]
"""Checks a clean checkout, made for a base, of a commit; true if it may land there."""
StillMine = Callable[[], bool]
"""Whether this machine may still act for the task; asked before what cannot be undone."""

log = structlog.get_logger(__name__)


class VerifyFailed(errors.AgentComError):
    """The work was good on its own base, and is not on today's."""

    code = "verify_failed"
    status = 409


class Suspended(Exception):
    """The lease ran out, or the landing was called off, before anything was pushed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """The commit that is in the base branch, and how it came there."""

    commit: str
    base_before: str
    rebased: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to enter a branch, and how it is checked again if that moved."""

    commit: str
    checked_on: str | None
    verify: Verify | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What may be pushed, as long as the branch has `base`."""

    commit: str
    base: str


async def land(
    cache: Cache,
    *,
    task: TaskId,
    fence: Fence,
    commit: str,
    base_branch: str,
    verify: Verify | None = None,
    checked_on: str | None = None,
    review: str | None = None,
    still_mine: StillMine = lambda: True,
) -> Landed:
    """Bring `commit` into the base branch, on top of it if that moved; again and again is once.

    `verify` runs if the base is not `checked_on`, the one that the checks were made on; where that
    is not known, if the commit does not hold the base. `review` is its pull request's branch.

    Raises:
        Stale: a newer attempt has the task.
        MergeConflict: the base changed the same places.
        VerifyFailed: the checks fail on the new base.
        Suspended: `still_mine` says no, right before the push.
        PushRejected: origin does not allow it, or the race was lost too often.
        GitFailed: origin did not answer, several times.
    """
    work = Work(commit=commit, checked_on=checked_on, verify=verify)
    await repositories.patiently(lambda: repositories.ensure(cache, [commit]))
    lost: git.GitFailed | None = None
    before: Seen | None = None
    candidate: Candidate | None = None
    ours = commit
    for tries in range(LAND_ATTEMPTS_MAX + 1):
        seen = await repositories.patiently(lambda: fences.look(cache, task, base_branch))
        landed = await done(cache, seen, fence, commit)
        if landed is not None:
            return landed
        if lost is not None and not again(lost, tries, moved=before != seen):
            raise lost
        if candidate is None or candidate.base != seen.base:
            candidate = await prepared(cache, seen.base, work)
        if not still_mine():
            raise Suspended
        ours = await _move_review(cache, review, ours, candidate)
        lost, before = await _push(cache, task, base_branch, seen, candidate.commit), seen
        if lost is None:
            return _landed(candidate, commit)
        # It may have arrived all the same: look again before anything else.
        if repositories.may_pass(lost):
            await repositories.pause(tries)
    raise AssertionError("the loop returns or raises")


def _landed(what: Candidate, commit: str) -> Landed:
    rebased = what.commit != commit
    return Landed(commit=what.commit, base_before=what.base, rebased=rebased)


@known.by_commit(PROJECT_FILES_MAX)
async def read_project_file(cache: Cache, base_commit: str) -> ProjectFile:
    """Return what the base says of itself; without a file, all defaults.

    Raises:
        ProjectFileInvalid: it is not understood.
    """
    text = await read_base_file(cache, base_commit, project_file.FILE_NAME)
    return project_file.parse_project_file(text or "")


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


async def done(cache: Cache, seen: Seen, fence: Fence, commit: str) -> Landed | None:
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
        raise fences.overtaken(seen.fence)
    if await repositories.contains(cache, seen.base, commit):
        return Landed(commit=commit, base_before=seen.base, rebased=False)
    return None


def again(lost: git.GitFailed, tries: int, *, moved: bool) -> bool:
    """Tell whether a push that failed is worth another try."""
    if tries == LAND_ATTEMPTS_MAX:
        return False
    if moved or (isinstance(lost, git.PushRejected) and lost.raced):
        return True
    return repositories.may_pass(lost) and tries < repositories.REMOTE_TRIES_MAX


async def prepared(cache: Cache, base: str, work: Work) -> Candidate:
    """Return what may be pushed on top of `base`.

    Raises:
        MergeConflict: both changed the same places.
        VerifyFailed: the checks fail there.
    """
    commit = await joining.onto(cache, base, work.commit, since=work.checked_on)
    moved = commit != work.commit or work.checked_on not in {None, base}
    if moved and work.verify is not None:
        async with trees.checkout(cache, commit) as where:
            if not await work.verify(where, base, commit):
                raise VerifyFailed("the checks fail on top of the moved base: see the results")
    return Candidate(commit=commit, base=base)


async def _move_review(cache: Cache, branch: str | None, ours: str, what: Candidate) -> str:
    """Let a branch under review follow its work, so that the forge sees a merge.

    What others pushed there stays. Returns what the branch has of ours.
    """
    commit = what.commit
    if branch is None or await repositories.contains(cache, commit, ours):
        return ours
    ref = f"refs/heads/{branch}"
    try:
        try:
            await lfs.push(cache, Move(ref=ref, new=commit, old=ours))
        except git.PushRejected:
            left = await _left_by_another(cache, ref, ours, what)
            if left is None:
                raise
            await lfs.push(cache, Move(ref=ref, new=commit, old=left))
    except git.GitFailed as failure:
        log.warning("review.not_moved", branch=branch, reason=failure.message)
        return ours
    return commit


async def _left_by_another(cache: Cache, ref: str, ours: str, what: Candidate) -> str | None:
    """Return where a branch stands if it holds no more than `ours`, brought to an earlier base.

    A landing that died between its two pushes leaves it there.
    """
    args = ("ls-remote", "--refs", "--end-of-options", cache.url, ref)
    tip = (await cache.run(*args, remote=True)).text.partition("\t")[0]
    if not tip:
        return None
    await repositories.ensure(cache, [tip])
    before = (await cache.run("merge-base", tip, what.base, check=False)).text
    if not before:
        return None
    try:
        same = await joining.onto(cache, before, ours)
    except git.MergeConflict:
        return None
    alike = await snapshots.tree_of(cache, same) == await snapshots.tree_of(cache, tip)
    return tip if alike else None


async def _push(
    cache: Cache, task: TaskId, base_branch: str, seen: Seen, commit: str
) -> git.GitFailed | None:
    # Both refs really move: a lease on a ref that stays as it is would not be sent.
    moves = (
        Move(ref=f"refs/heads/{base_branch}", new=commit, old=seen.base),
        Move(ref=refs.fence_ref(task), new=commit, old=seen.commit),
    )
    try:
        await lfs.push(cache, *moves)
    except git.GitFailed as failure:
        return failure
    return None
