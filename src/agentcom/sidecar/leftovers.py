"""What of a machine's work is nowhere but here: asked before somebody removes the machine's folder.

The tips of origin are asked for over the network. An origin that does not answer counts as one
that has nothing: rather a refusal too many than work that is gone.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from agentcom.model import errors, refs
from agentcom.model.ids import TaskId
from agentcom.sidecar import repositories, snapshots, trees, workspace
from agentcom.sidecar.config import Home
from agentcom.sidecar.repositories import Cache
from agentcom.sidecar.trees import Worktree


class Leftover(NamedTuple):
    """Something that would be lost."""

    what: str
    where: str


async def find(home: Home) -> list[Leftover]:
    """Return reports that no hub has acknowledged, and work that no origin has."""
    found = [
        Leftover("a report that the hub has not acknowledged", path.stem)
        for path in sorted((home.outbox / "held").glob("*.json"))
    ]
    for worktree in _worktrees(home):
        if worktree.path.is_dir():
            try:
                await workspace.rescue(worktree)  # what lies there is a commit then
            except (errors.AgentComError, OSError) as error:
                found.append(Leftover(f"files that cannot be read: {error}", str(worktree.path)))
    for cache in caches(home):
        what = f"work of {cache.url or 'a repository'} not at origin"
        found += [Leftover(what, f"{ref} in {cache.path}") for ref in await unpushed(cache)]
    return found


def caches(home: Home) -> Iterator[Cache]:
    """Return all clone caches of a machine."""
    for path in sorted(home.repositories.glob("caches/*/repo.git")):
        url = repositories.read(path.parent / repositories.ADDRESS) or ""
        yield Cache(root=home.repositories, url=url, path=path)


async def unpushed(cache: Cache) -> list[str]:
    """Return the refs of rescued commits whose files no tip of origin has."""
    listing = await cache.run("for-each-ref", "--format=%(refname) %(objectname)", refs.RESCUES)
    rescued = [line.split(" ") for line in listing.text.splitlines()]
    if not rescued:
        return []
    tips = await _tips(cache)
    saved = {await snapshots.tree_of(cache, tip) for tip in tips}
    left = []
    for ref, commit in rescued:
        if await snapshots.tree_of(cache, commit) in saved:
            continue
        more = await cache.run("rev-list", "--max-count=1", commit, "--not", *tips)
        if more.text:
            left.append(ref)
    return left


def _worktrees(home: Home) -> Iterator[Worktree]:
    for record in sorted(home.repositories.glob("state/*/worktree.json")):
        try:
            worktree = trees.load(home.repositories, TaskId(record.parent.name))
        except (errors.AgentComError, msgspec.DecodeError):
            continue
        if worktree is not None:
            yield worktree


async def _tips(cache: Cache) -> list[str]:
    """Return the commits that origin's refs name, as far as they are here too."""
    names = (await cache.run("for-each-ref", "--format=%(objectname)", refs.ORIGIN)).text.split()
    if cache.url:
        args = ("ls-remote", "--quiet", "--end-of-options", cache.url)
        done = await cache.run(*args, remote=True, check=False)
        if done.returncode == 0:
            names = [line.partition("\t")[0] for line in done.text.splitlines()]
    asked = "\n".join(dict.fromkeys(names)) + "\n"
    answer = await cache.run("cat-file", "--batch-check", data=asked.encode())
    lines = (line.split(" ") for line in answer.text.splitlines())
    return [words[0] for words in lines if len(words) > 1 and words[1] == "commit"]
