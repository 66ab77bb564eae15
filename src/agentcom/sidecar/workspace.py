"""The life of a task's folder: prepare, checkpoint, finish, push, rescue, remove.

Order matters: nothing is reset or removed before it is kept under a ref, and no agent starts
before origin's fence names its attempt.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from agentcom.model import errors, refs
from agentcom.model.ids import AgentId, Fence, TaskId
from agentcom.model.project_file import Submodules
from agentcom.sidecar import (
    contents,
    fences,
    git,
    handover,
    importing,
    joining,
    landing,
    lfs,
    repositories,
    resuming,
    searching,
    secrets_scan,
    snapshots,
    submodules,
    trees,
)
from agentcom.sidecar.repositories import Cache, Move
from agentcom.sidecar.secrets_scan import Finding
from agentcom.sidecar.trees import Worktree

CHECKPOINT_FILE_BYTES_MAX: Final = 20 * 1024 * 1024
"""A larger file is a build product; it stays out of checkpoints, which are pushed often."""
RESULT_FILE_BYTES_MAX: Final = 100 * 1024 * 1024
"""Common forges refuse larger files, and with them the whole push."""

log = structlog.get_logger(__name__)


class SecretFound(errors.AgentComError):
    """What was to be pushed holds something that looks like a secret."""

    code = "secret_found"
    status = 422

    def __init__(self, findings: Sequence[Finding]) -> None:
        shown = "; ".join(str(finding) for finding in findings[:10])
        super().__init__(f"not pushed, for it holds what looks like a secret: {shown}")
        self.findings = tuple(findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A commit of the folder, and what was left out of it."""

    commit: str
    findings: tuple[Finding, ...] = ()
    touched: tuple[str, ...] = ()
    """Paths that differ from what the attempt began with, the first of them."""
    touched_count: int = 0
    tree: str = ""
    """Of what `finish` made."""
    searched: bool = False
    """Whether all that is new in it since the start was searched for secrets, and holds none."""
    elsewhere: tuple[str, ...] = ()
    """The agent's branches and stashes whose commits are not in it; this machine keeps them."""


class _Last(msgspec.Struct, frozen=True):
    """The newest checkpoint that origin has, and what it was made of."""

    commit: str
    head: str
    tree: str


async def prepare(
    cache: Cache,
    *,
    task: TaskId,
    base_branch: str,
    fence: Fence,
    agent: AgentId,
    depends_on_commits: Sequence[str] = (),
    checkpoint: str | None = None,
    under_review: bool = False,
) -> Worktree:
    """Claim the task on origin and make its folder ready; `cache` was fetched just before.

    The same call for the same attempt changes nothing, so a restarted sidecar may repeat it.
    Work that is `under_review` is begun with even if it conflicts with the base.

    Raises:
        Stale: a newer attempt exists, here or on origin.
        AlreadyLanded: an earlier attempt landed.
        MergeConflict: two of base and dependencies do not go together.
        NotFound: origin has no such base branch.
        Unfit: the repository holds what cannot be given to an agent here.
        ProjectFileInvalid: the base's own file is not understood.
    """
    previous = trees.load(cache.root, task)
    if previous is not None and _is_made(previous, fence, agent):
        return previous
    base = await repositories.resolve(cache, refs.origin_ref(base_branch))
    if base is None:
        raise await _no_base(cache, base_branch)
    joined = await _join(cache, base, depends_on_commits)
    modules = await _looked_at(cache, base, joined)
    start, resumed = await resuming.resume(cache, base, joined, checkpoint, keep=under_review)
    await fences.claim(cache, task=task, fence=fence, agent=agent, base_branch=base_branch)
    worktree = Worktree(
        root=str(cache.root),
        url=cache.url,
        task=task,
        agent=agent,
        fence=fence,
        base_branch=base_branch,
        base=base,
        joined=joined,
        start=start,
        resumed=resumed,
        modules=modules,
    )
    await _take_over(worktree, previous)
    return worktree


async def checkpoint(worktree: Worktree) -> Saved | None:
    """Push the work in progress to the attempt's private ref; None if nothing is new.

    Raises:
        Stale: the folder belongs to a later attempt.
        GitFailed: origin could not be reached.
    """
    trees.own(worktree)
    cache = worktree.cache
    async with (
        repositories.locked(worktree.state / "lock"),
        snapshots.taken(worktree, strict=False) as shot,
    ):
        last = await _last(worktree)
        if (shot.head, shot.tree) == (last.head, last.tree):
            return None
        safe = await snapshots.safe(worktree, shot, file_bytes_max=CHECKPOINT_FILE_BYTES_MAX)
        paths = await snapshots.changed_paths(cache, worktree.joined, shot.tree)
        commit = await snapshots.commit_tree(
            cache, safe.tree, resuming.words(worktree), safe.parent
        )
        await _push_checkpoint(worktree, commit, last.commit)
        record = msgspec.json.encode(_Last(commit, shot.head, shot.tree)).decode()
        repositories.write(worktree.state / "checkpoint.json", record)
    touched, count = handover.touched_of(paths), len(paths)
    return Saved(commit=commit, findings=safe.findings, touched=touched, touched_count=count)


async def saved(worktree: Worktree) -> str | None:
    """Return the newest checkpoint of this attempt that is at origin."""
    return (await _last(worktree)).commit or None


async def finish(worktree: Worktree, message: str) -> Saved:
    """Commit what is left and return the commit that holds the attempt's whole work.

    The agent's processes must be dead. Its branch follows, so that another turn can go on. A file
    that git cannot take is a finding: it keeps nothing else from the result.

    Raises:
        Stale: the folder belongs to a later attempt.
        GitFailed: the folder could not be read.
    """
    trees.own(worktree)
    cache = worktree.cache
    async with repositories.locked(worktree.state / "lock"):
        async with snapshots.taken(worktree, strict=False) as shot:
            safe = await snapshots.safe(worktree, shot, file_bytes_max=RESULT_FILE_BYTES_MAX)
        commit, searched = safe.parent, True
        if safe.tree != await snapshots.tree_of(cache, safe.parent):
            commit = await snapshots.commit_tree(cache, safe.tree, message, safe.parent)
            searched = not secrets_scan.scan(commit, message.encode())
        elsewhere = await importing.import_refs(worktree, safe.parent)
        await cache.run("update-ref", refs.work_ref(worktree.task), commit)
        await asyncio.to_thread(trees.attach, worktree, commit)
        inside = await submodules.changed(worktree) if worktree.modules else ()
    findings = (*safe.findings, *inside)
    return Saved(
        commit=commit,
        findings=findings,
        tree=safe.tree,
        searched=searched,
        elsewhere=elsewhere,
    )


async def changed(worktree: Worktree) -> bool:
    """Tell whether the folder differs from what base and dependencies give."""
    async with (
        repositories.locked(worktree.state / "lock"),
        snapshots.taken(worktree, strict=False) as shot,
    ):
        return shot.tree != await snapshots.tree_of(worktree.cache, worktree.joined)


async def push_branch(
    worktree: Worktree,
    branch: str,
    commit: str,
    *,
    allow_secrets: bool = False,
    searched: bool = False,
) -> None:
    """Push `commit` as `branch`; a branch on origin only ever moves forward.

    What `finish` has `searched` is not searched again.

    Raises:
        SecretFound: a file in one of the commits holds what looks like a secret.
        PushRejected: origin has other commits there, or does not allow it.
    """
    if not allow_secrets:
        new = worktree.start if searched else commit
        findings = await searching.search_commits(worktree.cache, worktree.base, new)
        if findings:
            raise SecretFound(findings)
    move = Move(ref=f"refs/heads/{refs.check_branch(branch)}", new=commit, old=None)
    await lfs.push(worktree.cache, move)


async def rescue(worktree: Worktree) -> str:
    """Keep everything in the folder, branches and stashes too, under refs of this machine.

    Returns:
        The commit that holds the files as they are; `checkpoint` is what makes it leave.

    Raises:
        GitFailed: not everything in it could be read.
    """
    async with (
        repositories.locked(worktree.state / "lock"),
        snapshots.taken(worktree, strict=True) as shot,
    ):
        await importing.import_refs(worktree, shot.head)
        commit, last = shot.head, await _last(worktree)
        if last.commit and (last.head, last.tree) == (shot.head, shot.tree):
            commit = last.commit  # at origin already, unless something was left out of it
        if shot.tree != await snapshots.tree_of(worktree.cache, commit):
            title = f"Rescued from {worktree.task}, attempt {worktree.fence.attempt}"
            commit = await snapshots.commit_tree(worktree.cache, shot.tree, title, shot.head)
        ref = refs.rescue_ref(worktree.task, worktree.fence)
        await worktree.cache.run("update-ref", ref, commit)
    return commit


async def remove(worktree: Worktree) -> str | None:
    """Remove the task's folder, after everything in it was rescued.

    Returns:
        The rescued commit; None if nothing was left to rescue.

    Raises:
        Stale: the folder belongs to a later attempt.
        GitFailed: not everything in it could be read; it stays.
    """
    trees.own(worktree)
    commit = None
    if worktree.ready and worktree.there:
        commit = await rescue(worktree)
        # From here on it is half gone: a second rescue would put that in the place of the first.
        trees.save(msgspec.structs.replace(worktree, ready=False))
    await asyncio.to_thread(trees.discard, worktree.path)
    await asyncio.to_thread(trees.discard, worktree.state)
    return commit


def _is_made(previous: Worktree, fence: Fence, agent: AgentId) -> bool:
    """Tell whether the folder is what this attempt asks for; False if it is an older one's."""
    if previous.fence < fence:
        return False
    mine = previous.fence == fence and previous.agent == agent
    if mine and previous.ready and previous.there:
        return True
    if not mine or previous.ready:
        raise errors.Stale("a newer attempt of the task is on this machine: stop")
    return False


async def _looked_at(cache: Cache, base: str, joined: str) -> bool:
    """Refuse what cannot be given to an agent; tell whether there are submodules, now fetched."""
    says = await landing.read_project_file(cache, base)
    held = await contents.settle(cache, base, joined, says)
    modules = held.submodules and says.submodules is Submodules.FETCH
    if modules:
        await submodules.fetch(cache, joined)
    return modules


async def _join(cache: Cache, base: str, commits: Sequence[str]) -> str:
    await repositories.ensure(cache, commits)
    joined = base
    for commit in commits:
        joined = await joining.merge(cache, joined, commit, what=f"dependency {commit[:12]}")
    return joined


async def _take_over(worktree: Worktree, previous: Worktree | None) -> None:
    if previous is not None and previous.ready and previous.there:
        await _rescue_or_set_aside(previous)
    async with repositories.locked(worktree.state / "lock"):
        # Whoever finds the folder half made knows that nothing in it is worth keeping.
        trees.save(msgspec.structs.replace(worktree, ready=False))
        # Drafts of an index are left where a process was killed.
        for left in (worktree.state / "checkpoint.json", *worktree.state.glob("index.*")):
            left.unlink(missing_ok=True)
        await worktree.cache.run("update-ref", refs.work_ref(worktree.task), worktree.start)
        await trees.populate(worktree)
        if worktree.modules:
            await _put_modules(worktree)
        trees.save(worktree)


async def _put_modules(worktree: Worktree) -> None:
    await submodules.put(
        worktree.cache,
        worktree.start,
        worktree.path,
        base=worktree.joined,
        state=worktree.state / "submodules",
    )


async def _rescue_or_set_aside(worktree: Worktree) -> None:
    """Keep what is in a folder, whatever is in it: a task must not be stuck for what it left."""
    try:
        await rescue(worktree)
    except git.GitFailed as failure:
        place = await asyncio.to_thread(trees.set_aside, worktree)
        log.warning("worktree.set_aside", task=worktree.task, place=place, reason=failure.message)


async def _no_base(cache: Cache, branch: str) -> errors.NotFound:
    default = "no branch at all: push a first commit"
    with contextlib.suppress(errors.NotFound):
        there = await repositories.Repositories(cache.root).default_branch(cache.url)
        default = f"{there} as its default: was the branch renamed? Name another base"
    return errors.NotFound(f"origin has no branch {branch}, and {default}")


async def _last(worktree: Worktree) -> _Last:
    try:
        record = (worktree.state / "checkpoint.json").read_bytes()
        return msgspec.json.decode(record, type=_Last)
    except (FileNotFoundError, msgspec.DecodeError):
        tree = await snapshots.tree_of(worktree.cache, worktree.start)
        return _Last("", worktree.start, tree)


async def _push_checkpoint(worktree: Worktree, commit: str, old: str) -> None:
    ref = refs.checkpoint_ref(worktree.task, worktree.fence)
    try:
        await lfs.push(worktree.cache, Move(ref=ref, new=commit, old=old))
    except git.PushRejected:
        # Only this attempt writes the ref: a push before may have arrived without our knowing.
        args = ("ls-remote", "--end-of-options", worktree.url, ref)
        there = (await worktree.cache.run(*args, remote=True)).text.partition("\t")[0]
        if there == old:
            raise
        await lfs.push(worktree.cache, Move(ref=ref, new=commit, old=there))
