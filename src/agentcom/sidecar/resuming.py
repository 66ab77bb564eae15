"""Where an attempt goes on from: the work of the one before, brought up to date."""

import re
from typing import Final

from agentcom.sidecar import git, joining, repositories
from agentcom.sidecar.repositories import Cache
from agentcom.sidecar.trees import Worktree

_MADE_ON: Final = re.compile(r"\nBase: ([0-9a-f]{40,64})\nJoined: ([0-9a-f]{40,64})$")


def words(worktree: Worktree) -> str:
    """Return what the commit of a checkpoint says: also what it was made on."""
    title = f"Work in progress on {worktree.task}, attempt {worktree.fence.attempt}"
    return f"{title}\n\nBase: {worktree.base}\nJoined: {worktree.joined}\n"


async def resume(
    cache: Cache, base: str, joined: str, saved: str | None, *, keep: bool
) -> tuple[str, bool]:
    """Return where to start, and whether that is the work in `saved`.

    What does not go together with the base is left behind, unless it is to be kept: then the agent
    brings the two together.

    Raises:
        GitFailed: origin did not answer.
    """
    if saved is None:
        return joined, False
    try:
        await repositories.ensure(cache, [saved])
        return await _brought(cache, base, joined, saved), True
    except git.MergeConflict:
        return (saved, True) if keep else (joined, False)
    except git.GitFailed as failure:
        # A checkpoint that origin has dropped is gone; anything else may pass.
        if "not our ref" not in failure.detail:
            raise
        return joined, False


async def _brought(cache: Cache, base: str, joined: str, saved: str) -> str:
    made_on = _MADE_ON.search((await cache.run("cat-file", "commit", saved)).text)
    if made_on is not None and not await repositories.contains(cache, base, made_on[1]):
        return await joining.moved(cache, saved, old=made_on[2], new=joined, what="the checkpoint")
    return await joining.merge(cache, saved, joined, what="the checkpoint")
