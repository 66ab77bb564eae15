"""The fence on origin: one ref per task that only ever moves to a newer attempt.

It points to an empty commit that names the attempt, until landing moves it, in one atomic push
with the base branch, to the landed commit. Every move is a compare-and-swap, so an attempt that
was overtaken can neither claim nor land, whatever it believes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentcom.model import errors, refs
from agentcom.model.ids import AgentId, Fence, TaskId
from agentcom.sidecar import git, repositories
from agentcom.sidecar.repositories import Cache, Move

CLAIM_ATTEMPTS_MAX: Final = 5
"""Claims of one task that collide; more means that something else moves the ref."""

_FENCE: Final = re.compile(
    rf"tree {repositories.EMPTY_TREE}\n"
    r"author [^\n]*\ncommitter [^\n]*\n\n"
    r"agentcom fence (\d+)\.(\d+)\n\ntask: (?P<task>\S+)\nagent: (?P<agent>\S+)\n"
)


class AlreadyLanded(errors.Conflict):
    """The task's work is in the base branch: there is nothing to do but to report it."""

    code = "already_landed"

    def __init__(self, commit: str) -> None:
        super().__init__(f"the task landed as {commit[:12]}: report that commit")
        self.commit = commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What origin held at one moment."""

    base: str
    """The tip of the branch; "" if it was not asked to be there, and is not."""
    commit: str
    """What the fence ref points to; "" if there is none."""
    fence: Fence | None
    """The attempt it names; None if there is none or if it points to a landed commit."""

    @property
    def landed(self) -> str | None:
        """The commit that landing left in the fence ref; it may have been undone since."""
        return self.commit if self.commit and self.fence is None else None


async def claim(
    cache: Cache, *, task: TaskId, fence: Fence, agent: AgentId, base_branch: str
) -> str:
    """Make `fence` the task's newest attempt on origin; the same claim again changes nothing.

    Raises:
        Stale: origin knows a newer attempt, or the same one by another agent.
        AlreadyLanded: an earlier attempt landed and the base branch holds its commit.
    """
    mine = await _write(cache, task=task, fence=fence, agent=agent)
    ref = refs.fence_ref(task)
    # A first attempt finds no ref but for a race, so it need not look first.
    old = "" if fence.attempt <= 1 else await _claimable(cache, task, fence, mine, base_branch)
    for last in range(CLAIM_ATTEMPTS_MAX):
        if old == mine:
            return mine
        try:
            await repositories.push(cache, Move(ref=ref, new=mine, old=old))
        except git.PushRejected as rejected:
            now = await _claimable(cache, task, fence, mine, base_branch)
            if last == CLAIM_ATTEMPTS_MAX - 1 or (now == old and not rejected.raced):
                raise
            old = now
        else:
            return mine
    raise AssertionError("the loop returns or raises")


async def look(cache: Cache, task: TaskId, base_branch: str, *, may_lack: bool = False) -> Seen:
    """Fetch the base branch and the task's fence in one go.

    Raises:
        GitFailed: origin did not answer, or has no such branch though it must.
    """
    return (await look_all(cache, (task,), base_branch, may_lack=may_lack))[task]


async def look_all(
    cache: Cache, tasks: Sequence[TaskId], base_branch: str, *, may_lack: bool = False
) -> Mapping[TaskId, Seen]:
    """Fetch the base branch and the fences of several tasks in one go.

    Raises:
        GitFailed: origin did not answer, or has no such branch though it must.
    """
    base = refs.origin_ref(base_branch)
    names = [refs.fence_ref(task) for task in tasks]
    # The star makes an absent ref no error, and --prune drop our copy of it.
    star = "*" if may_lack else ""
    branch = f"+refs/heads/{base_branch}{star}:{base}{star}"
    await repositories.fetch(cache, branch, *(f"+{ref}*:{ref}*" for ref in names))
    tip = await repositories.resolve(cache, base) or ""
    asked = "".join(f"{ref}\n" for ref in names)
    out = (await cache.run("cat-file", "--batch", data=asked.encode())).out
    seen: dict[TaskId, Seen] = {}
    for task in tasks:
        commit, body, out = _object(out)
        match = _FENCE.fullmatch(body.decode("utf-8", "replace"))
        mine = match is not None and match["task"] == task
        known = Fence(int(match[1]), int(match[2])) if match is not None and mine else None
        seen[task] = Seen(base=tip, commit=commit, fence=known)
    return seen


def _object(out: bytes) -> tuple[str, bytes, bytes]:
    """Return the name and body of the next object ("" if it is missing), and what follows it."""
    line, _, rest = out.partition(b"\n")
    if line.endswith(b" missing"):
        return "", b"", rest
    name, _, size = line.decode().split(" ")
    return name, rest[: int(size)], rest[int(size) + 1 :]


async def mark(cache: Cache, *, task: TaskId, fence: Fence, agent: AgentId, commit: str) -> str:
    """Return what the fence ref becomes when an attempt brings `commit` to review.

    It names the attempt as its claim does, and is another object, so that the ref really moves.
    """
    return await _write(cache, task=task, fence=fence, agent=agent, why=f" {commit[:12]}")


def overtaken(by: Fence) -> errors.Stale:
    """Return the refusal of an attempt that is not the newest."""
    return errors.Stale(f"attempt {by.attempt} has the task: nothing was landed")


async def _claimable(cache: Cache, task: TaskId, fence: Fence, mine: str, base_branch: str) -> str:
    """Return what origin holds if `fence` may replace it."""
    seen = await look(cache, task, base_branch)
    if seen.commit == mine:
        return mine
    if seen.fence is not None and seen.fence >= fence:
        raise errors.Stale(f"origin knows attempt {seen.fence.attempt}: stop, the work moved on")
    landed = seen.landed
    if landed is not None and await repositories.contains(cache, seen.base, landed):
        raise AlreadyLanded(landed)
    return seen.commit


async def _write(cache: Cache, *, task: TaskId, fence: Fence, agent: AgentId, why: str = "") -> str:
    # Nothing in it depends on the moment, so the same claim is the same object.
    who = f"{git.NAME}{why} <{git.EMAIL}> {fence.incarnation} +0000"
    text = (
        f"tree {repositories.EMPTY_TREE}\nauthor {who}\ncommitter {who}\n\n"
        f"agentcom fence {fence.incarnation}.{fence.attempt}\n\ntask: {task}\nagent: {agent}\n"
    )
    made = await cache.run("hash-object", "-t", "commit", "-w", "--stdin", data=text.encode())
    return made.text
