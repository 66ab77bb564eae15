"""Submodules: other repositories whose files a commit wants in a folder.

They are fetched into clone caches of their own and put in place by us. Nothing of `.gitmodules`
is followed but paths and addresses, and an address must be one that the base names: an agent
cannot have this machine fetch what it likes. Their folders are no repositories, so what an agent
changes there is in no commit; it is named when the attempt ends.
"""

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from agentcom.model import refs
from agentcom.model.project_file import FILE_NAME
from agentcom.sidecar import known, repositories, trees
from agentcom.sidecar.contents import Unfit
from agentcom.sidecar.repositories import Cache, Repositories
from agentcom.sidecar.secrets_scan import Finding
from agentcom.sidecar.trees import Worktree

MODULES_MAX: Final = 100
"""Submodules of one repository; each is a fetch."""
DEPTH_MAX: Final = 4
"""Submodules in submodules."""
LEFT_OUT: Final = "changed in a submodule, which is another repository"
CHANGES_MAX: Final = 100
COMMITS_MAX: Final = 256
"""Commits whose submodules are remembered; most have none."""

_LOCAL: Final = ("/", "file://")


class Module(NamedTuple):
    """A submodule of a commit: where its files go, and which commit of which origin they are."""

    path: str
    url: str
    commit: str


async def fetch(cache: Cache, commit: str, *, depth: int = 1) -> None:
    """Bring the submodules of `commit` into their own caches, and theirs.

    Raises:
        Unfit: there are too many, or one comes from where nothing is fetched.
        GitFailed: an origin did not answer, or lacks the commit.
    """
    for module in await listed(cache, commit):
        if depth > DEPTH_MAX:
            raise Unfit(f"submodules in submodules, more than {DEPTH_MAX} deep: {module.path}")
        caches = Repositories(cache.root)
        inner = caches.cache(module.url)
        there = await inner_has(inner, module.commit)
        if not there:
            inner = await caches.fetch(module.url)
            await repositories.ensure(inner, [module.commit])
        await fetch(inner, module.commit, depth=depth + 1)


async def put(cache: Cache, commit: str, where: Path, *, base: str, state: Path) -> None:
    """Put the files of the submodules of `commit` into the folder `where`, theirs too.

    `state` is where their indexes are kept. What is not in a cache yet is fetched, from nowhere
    but the addresses that `base` names.

    Raises:
        Unfit: an address is not the base's, or links lead out of the folder.
        GitFailed: an origin did not answer, or lacks the commit.
    """
    addresses = {module.url for module in await listed(cache, base)}
    modules = await listed(cache, commit)
    strange = next((module for module in modules if module.url not in addresses), None)
    if strange is not None:
        raise Unfit(f"the base does not know the origin of the submodule {strange.path}: not used")
    if modules:
        await fetch(cache, commit)
    async for inner, module, place in _all(cache, commit, where):
        if not await asyncio.to_thread(_real, where, place):
            raise Unfit(f"the folder of the submodule {module.path} is a link: not written to")
        await asyncio.to_thread(state.mkdir, mode=0o700, parents=True, exist_ok=True)
        await trees.write_files(inner, module.commit, place, index=_index(state, where, place))


async def changed(worktree: Worktree) -> tuple[Finding, ...]:
    """Return the files of submodules that an agent changed: they are in no commit."""
    found: list[Finding] = []
    where, state = worktree.path, worktree.state / "submodules"
    async for inner, _, place in _all(worktree.cache, worktree.start, where):
        index = _index(state, where, place)
        if not (index.exists() and await asyncio.to_thread(_real, where, place)):
            continue
        env = {"GIT_WORK_TREE": str(place), "GIT_INDEX_FILE": str(index)}
        await inner.run("update-index", "-q", "--refresh", env=env, check=False)
        names = (await inner.run("diff-files", "--name-only", "-z", env=env)).fields
        inside = place.relative_to(where)
        found += [Finding(path=f"{inside}/{name}", line=0, kind=LEFT_OUT) for name in names]
        if len(found) >= CHANGES_MAX:
            break
    return tuple(found[:CHANGES_MAX])


@known.by_commit(COMMITS_MAX)
async def listed(cache: Cache, commit: str) -> tuple[Module, ...]:
    """Return the submodules of a commit.

    Raises:
        Unfit: there are too many, or one has no address that we use.
    """
    rows = (await cache.run("ls-tree", "-r", "-z", "--full-tree", commit)).fields
    links = [row.partition("\t") for row in rows if row.startswith("160000 ")]
    if not links:
        return ()
    if len(links) > MODULES_MAX:
        raise Unfit(f"the repository has {len(links)} submodules, more than {MODULES_MAX}")
    urls = await _urls(cache, commit)
    return tuple(
        Module(path, _address(cache.url, path, urls.get(path)), meta.split(" ")[2])
        for meta, _, path in links
    )


async def inner_has(cache: Cache, commit: str) -> bool:
    """Tell whether a clone cache, which may not exist yet, has a commit."""
    if not (cache.path / "HEAD").exists():
        return False
    found = await cache.run("cat-file", "-e", f"{commit}^{{commit}}", check=False)
    return found.returncode == 0


async def _all(
    cache: Cache, commit: str, where: Path, depth: int = 1
) -> AsyncIterator[tuple[Cache, Module, Path]]:
    for module in await listed(cache, commit) if depth <= DEPTH_MAX else ():
        inner, place = Repositories(cache.root).cache(module.url), where / module.path
        yield inner, module, place
        async for deeper in _all(inner, module.commit, place, depth + 1):
            yield deeper


async def _urls(cache: Cache, commit: str) -> dict[str, str]:
    """Return the address of each submodule by its path, as `.gitmodules` says it."""
    args = ("config", "--blob", f"{commit}:.gitmodules", "-z", "--list")
    places: dict[str, str] = {}
    urls: dict[str, str] = {}
    for line in (await cache.run(*args, check=False)).fields:
        key, _, value = line.partition("\n")
        name, _, what = key.removeprefix("submodule.").rpartition(".")
        if what == "path":
            places[value] = name
        elif what == "url":
            urls[name] = value
    return {path: urls[name] for path, name in places.items() if name in urls}


def _address(origin: str, path: str, url: str | None) -> str:
    way_out = f'correct .gitmodules, or write `submodules = "empty"` into {FILE_NAME}'
    if url is None:
        raise Unfit(f"the submodule {path} has no address: {way_out}")
    full = _resolved(origin, url)
    try:
        refs.check_repository(full)
    except refs.UnsafeRepository as error:
        raise Unfit(f"the submodule {path}: {error.message}; {way_out}") from None
    if full.startswith(_LOCAL) and not origin.startswith(_LOCAL):
        raise Unfit(f"the submodule {path} is a folder of this machine: {way_out}")
    return full


def _resolved(origin: str, url: str) -> str:
    """Return what an address that begins with ./ or ../ means, as git does."""
    if not url.startswith(("./", "../")):
        return url
    parts, base = url.split("/"), origin.rstrip("/")
    while parts and parts[0] in {".", ".."}:
        if parts.pop(0) == "..":
            cut = base.rpartition("/")[0] if "/" in base else base.rpartition(":")[0] + ":"
            base = cut or base
    joint = "" if base.endswith(":") else "/"
    return f"{base}{joint}{'/'.join(parts)}"


def _index(state: Path, where: Path, place: Path) -> Path:
    inside = os.fsencode(place.relative_to(where))
    return state / f"{hashlib.sha256(inside).hexdigest()[:32]}.index"


def _real(where: Path, place: Path) -> bool:
    """Tell whether `place` and every folder between it and `where` is a folder, and no link."""
    inside: Sequence[str] = place.relative_to(where).parts
    at = where
    for part in inside:
        at = at / part
        try:
            if not stat.S_ISDIR(at.lstat().st_mode):
                return False
        except OSError:
            return False
    return True
