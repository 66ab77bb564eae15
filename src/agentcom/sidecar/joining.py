"""Bringing two lines of work together in the clone cache, so that nothing of either is lost."""

from collections.abc import Sequence
from pathlib import Path

from agentcom.model import errors
from agentcom.sidecar import git, repositories, snapshots, trees
from agentcom.sidecar.repositories import Cache


async def merge(
    cache: Cache, ours: str, theirs: str, *, what: str, title: str | None = None, dry: bool = False
) -> str:
    """Return a commit that holds both, made without any folder; one of the two if it does.

    With `dry` there is no commit: what is returned is the tree.

    Raises:
        MergeConflict: both changed the same places.
    """
    if await repositories.contains(cache, ours, theirs):
        return ours
    if await repositories.contains(cache, theirs, ours):
        return theirs
    args = ("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", ours, theirs)
    done = await cache.run(*args, check=False)
    if done.returncode not in {0, 1}:
        raise git.GitFailed("merge-tree", done.returncode, done.err)
    tree, *files = done.fields
    if done.returncode == 1:
        raise git.MergeConflict(what, sorted(set(files)))
    if dry:
        return tree
    return await snapshots.commit_tree(cache, tree, title or f"Join {what}", ours, theirs)


async def onto(cache: Cache, base: str, commit: str, *, since: str | None = None) -> str:
    """Return `commit` if it is ahead of `base`, else a commit with its changes on top of it.

    `since` is the base that the changes were made on, where it is known.

    Raises:
        MergeConflict: both changed the same places.
    """
    if await repositories.contains(cache, commit, base):
        return commit
    if since is not None and not await repositories.contains(cache, base, since):
        return await moved(cache, commit, old=since, new=base, what="the rewritten base branch")
    if await _has_merges(cache, base, commit):
        # A rebase drops merge commits, and with them what only they hold: resolved conflicts.
        title = f"Merge {commit[:12]} into the base branch"
        return await merge(cache, base, commit, what="the base branch", title=title)
    return await _rebased(cache, base, commit)


async def moved(cache: Cache, commit: str, *, old: str, new: str, what: str) -> str:
    """Return the changes that `commit` makes to `old` as one commit on `new`.

    Of the history of `old` nothing comes along: whoever rewrote it had a reason.

    Raises:
        MergeConflict: both changed the same places.
    """
    trees_of = [await snapshots.tree_of(cache, one) for one in (old, new, commit)]
    root = await snapshots.commit_tree(cache, trees_of[0], "Before")
    ours, theirs = [await snapshots.commit_tree(cache, tree, "x", root) for tree in trees_of[1:]]
    tree = await merge(cache, ours, theirs, what=what, dry=True)
    if tree in {ours, theirs}:  # one of the two is no change at all
        tree = await snapshots.tree_of(cache, tree)
    message = (await cache.run("log", "-1", "--format=%B", commit)).text
    return await snapshots.commit_tree(cache, tree, message, new)


async def _has_merges(cache: Cache, base: str, commit: str) -> bool:
    found = await cache.run("rev-list", "--merges", "--max-count=1", commit, f"^{base}")
    return bool(found.text)


async def _rebased(cache: Cache, base: str, commit: str) -> str:
    async with trees.checkout(cache, commit, pointers=True) as where:
        flags = ("--quiet", "--no-autosquash", "--no-stat", "--no-verify")
        # Without these a change that the base took and then took back would vanish silently.
        keep = ("--reapply-cherry-picks", "--empty=drop")
        done = await git.run(("rebase", *flags, *keep, base), where, check=False)
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
