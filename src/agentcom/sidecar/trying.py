"""Trial merges: does the work so far go together with what other attempts have made so far?

Each checkpoint is merged, in objects alone, with the newest checkpoints of other tasks that origin
has. What is in conflict is told once for each pair and change. Nothing is merged in earnest.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from agentcom.model import limits, refs
from agentcom.model.ids import Fence, TaskId
from agentcom.model.result import Clash
from agentcom.sidecar import git, handover, joining, repositories
from agentcom.sidecar.forge.base import PullRequest
from agentcom.sidecar.repositories import Cache, Repositories
from agentcom.sidecar.trees import Worktree

OTHERS_MAX: Final = 50
"""Tasks whose work is tried, the youngest ones; each costs some 10 ms."""
TRY_S_MAX: Final = 20.0
"""Of one checkpoint's trials; the next one begins where this ended."""
_TRIED: Final = "tried.json"


class _Tried(msgspec.Struct, frozen=True):
    """The last trial with one other task, and what was told of it."""

    mine: str
    theirs: str
    paths: tuple[str, ...] = ()


async def clashes(worktree: Worktree, commit: str) -> tuple[Clash, ...]:
    """Return what is new about conflicts of the checkpoint `commit` with other tasks.

    Raises:
        GitFailed: origin did not answer.
    """
    cache = worktree.cache
    theirs = await _others(cache, worktree.task)
    known = _load(worktree)
    tried: dict[str, _Tried] = {}
    found: list[Clash] = []
    ends_s = time.monotonic() + TRY_S_MAX
    for task, other in theirs.items():
        before = known.get(task, _Tried("", ""))
        tried[task] = before
        if (before.mine, before.theirs) == (commit, other) or time.monotonic() > ends_s:
            continue
        paths = await _conflict(cache, commit, other)
        tried[task] = _Tried(commit, other, paths)
        if paths != before.paths and len(found) < limits.OVERLAPS_MAX:
            found.append(Clash(task, paths))
    record = msgspec.json.encode(tried).decode()
    await asyncio.to_thread(repositories.write, worktree.state / _TRIED, record)
    return tuple(found)


async def _others(cache: Cache, mine: TaskId) -> dict[TaskId, str]:
    """Return the newest checkpoint of each other task; all of them are here afterwards."""
    args = ("ls-remote", "--refs", "--end-of-options", cache.url, f"{refs.CHECKPOINTS}/*")
    newest: dict[TaskId, tuple[Fence, str, str]] = {}
    for line in (await cache.run(*args, remote=True)).text.splitlines():
        commit, _, ref = line.partition("\t")
        name = refs.of_checkpoint(ref)
        if name is None or name[0] == mine:
            continue
        task, fence = name
        if task not in newest or newest[task][0] < fence:
            newest[task] = (fence, commit, ref)
    # Ids of tasks are ordered by time.
    chosen = {task: newest[task] for task in sorted(newest, reverse=True)[:OTHERS_MAX]}
    names = "".join(f"{commit}\n" for _, commit, _ in chosen.values()).encode()
    rows = (await cache.run("cat-file", "--batch-check", data=names)).text.splitlines()
    missing = {row.split(" ")[0] for row in rows if row.endswith(" missing")}
    wanted = [f"+{ref}*:{ref}*" for _, commit, ref in chosen.values() if commit in missing]
    if wanted:
        await repositories.fetch(cache, *wanted)
    return {task: commit for task, (_, commit, _) in chosen.items()}


async def _conflict(cache: Cache, ours: str, theirs: str) -> tuple[str, ...]:
    try:
        await joining.merge(cache, ours, theirs, what="a trial", dry=True)
    except git.MergeConflict as conflict:
        return handover.touched_of(conflict.files)[: limits.CLASH_PATHS]
    except git.GitFailed as failure:
        if failure.returncode is None:
            raise
    return ()


def _load(worktree: Worktree) -> Mapping[str, _Tried]:
    try:
        data = (worktree.state / _TRIED).read_bytes()
        return msgspec.json.decode(data, type=dict[str, _Tried])
    except (OSError, msgspec.DecodeError):
        return {}


async def conflicts(caches: Repositories, repo: str, pull: PullRequest) -> Sequence[str]:
    """Return the files in which a pull request conflicts with its base, by git's own judgement.

    Raises:
        GitFailed: origin did not answer.
    """
    cache = await caches.fetch(repo)
    base = await repositories.resolve(cache, refs.origin_ref(pull.base))
    if base is None:
        return ()
    await repositories.ensure(cache, [pull.commit])
    try:
        await joining.merge(cache, base, pull.commit, what="the base branch", dry=True)
    except git.MergeConflict as conflict:
        return conflict.files
    return ()
