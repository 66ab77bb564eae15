"""Making a folder ready for work: the base's set-up, or what it made before.

What set-up makes in a folder with nothing but the base's files is kept beside the clone cache, as
a stock. Whoever needs the same gets a copy, and set-up does not run. An agent never works in a
stock, and none is made of a folder that an agent has seen: what agents change reaches nobody else.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agentcom.model.ids import WallTime
from agentcom.model.verification import Check, Report
from agentcom.sidecar import repositories, submodules, trees, verify
from agentcom.sidecar.checks import CheckPlan
from agentcom.sidecar.repositories import Cache
from agentcom.sidecar.trees import Worktree

STOCKS: Final = "setups"
DRAFT: Final = ".new-"
"""What a stock is called until it is whole."""
_COPY_S_MAX: Final = 900.0
"""A stock of some gigabytes on a slow disk; set-up itself has as long."""
_DONE: Final = "setup"
_VARIABLES: Final = "environment.json"

log = structlog.get_logger(__name__)


async def make_ready(
    worktree: Worktree, plan: CheckPlan, *, tag: str, confined: verify.Confined | None = None
) -> Report | None:
    """Run the set-up in a task's folder unless it has what set-up makes; return it if it failed.

    `tag` names its processes; `confined` says what they may use and see. The same call for the same
    attempt runs it once.
    """
    variables = msgspec.json.encode(plan.environment).decode()
    repositories.write(worktree.state / _VARIABLES, variables)
    if not plan.setup:
        return None
    key = await _key(worktree.cache, worktree.start, plan)
    paths = plan.cache.paths
    attempt = f"{worktree.fence.incarnation}.{worktree.fence.attempt}"
    done = (repositories.read(worktree.state / _DONE) or "").split()
    if done[:1] == [key]:
        warm = bool(paths) and await asyncio.to_thread(_all_there, worktree.path, paths)
        if warm or (not paths and done[1:] == [attempt]):
            return None
    fresh = worktree.start == worktree.base and await _untouched(worktree)
    stock = _stock(worktree.cache, key)
    if not paths or not await asyncio.to_thread(_copied, stock, worktree.path, paths):
        steps = plan.setup
        report = await verify.verify(
            worktree.path,
            steps[-1:],
            setup=steps[:-1],
            commit=worktree.start,
            attempt=tag,
            environment=plan.environment,
            confined=confined,
        )
        if not report.verified:
            return report
        if paths and fresh:
            await asyncio.to_thread(_keep, worktree.path, stock, paths)
    repositories.write(worktree.state / _DONE, f"{key} {attempt}")
    return None


async def checked_out(
    cache: Cache, commit: str, where: Path, plan: CheckPlan, *, base: str
) -> Sequence[Check]:
    """Give a clean checkout of `commit` its submodules, and what set-up makes if that is in stock.

    Returns:
        The set-up that is still to be run there.

    Raises:
        Unfit: a submodule comes from where the base does not take any.
        GitFailed: the origin of a submodule did not answer.
    """
    if plan.modules:
        async with trees.scratch(cache.root) as state:
            await submodules.put(cache, commit, where, base=base, state=state)
    return await remaining(cache, commit, where, plan)


async def remaining(cache: Cache, commit: str, where: Path, plan: CheckPlan) -> Sequence[Check]:
    """Return the set-up that a clean checkout of `commit` still needs; none if a stock did."""
    if not (plan.setup and plan.cache.paths):
        return plan.setup
    stock = _stock(cache, await _key(cache, commit, plan))
    done = await asyncio.to_thread(_copied, stock, where, plan.cache.paths)
    return () if done else plan.setup


def environment(worktree: Worktree | None) -> Mapping[str, str]:
    """Return the variables that the base of a task wants its agent to have."""
    if worktree is not None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            data = (worktree.state / _VARIABLES).read_bytes()
            return msgspec.json.decode(data, type=dict[str, str])
    return {}


def clear_drafts(folder: Path, now: WallTime) -> None:
    """Remove stocks beside a clone cache that were never finished, or are half removed."""
    for path in (folder / STOCKS).glob(f"{DRAFT}*"):
        if path.lstat().st_mtime * 1_000 < now - 2_000 * _COPY_S_MAX:
            trees.discard(path)


async def _key(cache: Cache, commit: str, plan: CheckPlan) -> str:
    """Return a name for what set-up makes of `commit`.

    It stands for the commands, their variables, this platform, and the files that either `key`
    or the commands name; where no file is named, for all files.
    """
    words = {word.removeprefix("./") for step in plan.setup for word in step.argv[:64]}
    named = {word for word in words if word and not word.startswith(("-", "/", "."))}
    names = sorted({*plan.cache.key, *named})
    args = ("ls-tree", "-z", "--full-tree", commit, "--", *names)
    files = (await cache.run(*args, check=False)).fields
    if not files:
        files = [(await cache.run("rev-parse", "--verify", f"{commit}^{{tree}}")).text]
    steps = [step.argv for step in plan.setup]
    built = (sys.platform, platform.machine())
    said = json.dumps([steps, plan.cache.paths, sorted(plan.environment.items()), files, built])
    return hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()[:32]


async def _untouched(worktree: Worktree) -> bool:
    """Tell whether a folder has nothing but what was checked out, ignored files included."""
    env = {
        "GIT_WORK_TREE": str(worktree.path),
        "GIT_INDEX_FILE": str(worktree.state / "index"),
    }
    found = await worktree.cache.run("ls-files", "--others", "--directory", "-z", env=env)
    return not found.fields


def _stock(cache: Cache, key: str) -> Path:
    return cache.path.parent / STOCKS / key


def _all_there(where: Path, paths: Sequence[str]) -> bool:
    real = (_real_parent(where, path) and not (where / path).is_symlink() for path in paths)
    return all(real) and all((where / path).is_dir() for path in paths)


def _copied(stock: Path, where: Path, paths: Sequence[str]) -> bool:
    """Put a copy of the stock into a folder, if there is one and nothing is in its way."""
    if not stock.is_dir():
        return False
    if any(not _real_parent(where, path) or os.path.lexists(where / path) for path in paths):
        return False
    done: list[Path] = []
    try:
        for number, path in enumerate(paths):
            done.append(where / path)
            _copy(stock / str(number), where / path)
        os.utime(stock)  # the newest use: who makes room takes the oldest
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("setup.not_copied", reason=str(error))
        for place in done:
            trees.discard(place)
        return False
    return True


def _keep(where: Path, stock: Path, paths: Sequence[str]) -> None:
    """Keep what set-up made as a stock, all of it or nothing."""
    if stock.exists() or not _all_there(where, paths):
        return
    draft = stock.with_name(f"{DRAFT}{uuid.uuid4().hex}")
    try:
        draft.mkdir(parents=True, mode=0o700)
        for number, path in enumerate(paths):
            _copy(where / path, draft / str(number))
        draft.rename(stock)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("setup.not_kept", reason=str(error))
        trees.discard(draft)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder with its links as they are; without using room where the disk can share."""
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = ("-a", "--reflink=auto") if sys.platform == "linux" else ("-Rp",)
    subprocess.run(  # noqa: S603 - fixed words and paths that were checked
        [shutil.which("cp") or "/bin/cp", *flags, "--", source, target],
        check=True,
        capture_output=True,
        timeout=_COPY_S_MAX,
    )


def _real_parent(where: Path, path: str) -> bool:
    """Tell whether the folders above `path` are none of them links that lead elsewhere."""
    for parent in Path(path).parents:
        try:
            mode = (where / parent).lstat().st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(mode):
            return False
    return True
