"""Bringing good work to review: the branch of its pull request moves, then the forge is told.

All attempts of a task move the same branch, each by compare-and-swap together with the task's
fence, so an attempt that was overtaken changes nothing. A pull request is found by that branch
before one is opened: a machine that died in between opens no second one.
"""

from dataclasses import dataclass
from typing import Final

import structlog

from agentcom.model import limits, note, refs
from agentcom.model.ids import Fence, TaskId
from agentcom.model.result import Landing, LandStatus
from agentcom.model.usage import TurnUsage
from agentcom.sidecar import fences, git, handover, landing, lfs, repositories, review
from agentcom.sidecar.fences import Seen
from agentcom.sidecar.forge.base import Draft, Forge, ForgeError, PullRequest, PullState
from agentcom.sidecar.landing import Candidate, StillMine, Work
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.repositories import Cache, Move

PLACES_MAX: Final = 20
"""Remarks for the reviewer, and checks, that a pull request's text names."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A commit that is to be reviewed."""

    record: Record
    work: Work
    base: str
    """The branch that it is meant for."""
    still_mine: StillMine

    @property
    def task(self) -> TaskId:
        """Whose work it is."""
        return self.record.assignment.task

    @property
    def fence(self) -> Fence:
        """The attempt that brings it."""
        return self.record.assignment.fence


async def bring(cache: Cache, forge: Forge, order: Order) -> Landing:
    """Open the pull request of a task, or bring it up to date; again and again is once.

    Raises:
        Stale: a newer attempt has the task.
        MergeConflict: somebody changed the same places of the branch.
        VerifyFailed: the checks fail on top of what somebody pushed to the branch.
        Suspended: this machine may not act for the task any more; nothing was pushed.
        PushRejected: origin does not allow it, or the race was lost too often.
        GitFailed: origin did not answer, several times.
        ForgeError: the forge did not do it.
    """
    branch = refs.pull_branch(order.task)
    pull = await forge.find(branch, order.base)
    again = order.record.assignment.pull_request is not None
    if pull is not None and pull.state is PullState.MERGED:
        merged = pull.merged_as or pull.commit
        return Landing(status=LandStatus.LANDED, commit=merged, pull_request=pull.url)
    if pull is not None and pull.state is PullState.CLOSED and again:
        message = f"{pull.url} was closed without being merged"
        return Landing(status=LandStatus.REJECTED, message=message)
    commit = await _pushed(cache, branch, order)
    draft = Draft(branch=branch, base=order.base, title=_title(order.record), body=_body(order))
    if pull is None or pull.state is PullState.CLOSED:
        pull = await _opened(forge, draft)
    elif not again:  # a machine that died had opened it: who asks for it now says more
        await forge.describe(pull.number, draft)
    await _answer(forge, pull, order, commit)
    log.info("pull_request.opened", task=order.task, commit=commit, address=pull.url)
    return Landing(status=LandStatus.OPENED, commit=commit, branch=branch, pull_request=pull.url)


async def _opened(forge: Forge, draft: Draft) -> PullRequest:
    try:
        return await forge.open(draft)
    except ForgeError:
        # It may be open all the same: the answer was lost, or the forge has one already.
        found = await forge.find(draft.branch, draft.base)
        if found is None or found.state is not PullState.OPEN:
            raise
        return found


async def _answer(forge: Forge, pull: PullRequest, order: Order, commit: str) -> None:
    """Say at the forge what became of what was asked there."""
    record, reader = order.record, review.Reader(forge)
    result = record.result
    names = result.reviewed if result is not None else record.assignment.reviewed
    if not names or await reader.has_said(pull.number, order.task, order.fence):
        return
    words = (result.summary if result is not None else record.assignment.note) or ""
    said = handover.note_of(words) or ""
    text = review.answer(task=order.task, fence=order.fence, names=names, commit=commit, said=said)
    await forge.say(pull.number, text)


# The branch ---------------------------------------------------------------------------------------


async def _pushed(cache: Cache, branch: str, order: Order) -> str:
    """Return what the branch has once it holds the commit."""
    work, record = order.work, order.record
    await repositories.patiently(lambda: repositories.ensure(cache, [work.commit]))
    lost: git.GitFailed | None = None
    before: Seen | None = None
    for tries in range(landing.LAND_ATTEMPTS_MAX + 1):
        seen = await repositories.patiently(
            lambda: fences.look(cache, order.task, branch, may_lack=True)
        )
        _check(seen, order)
        if seen.base and await repositories.contains(cache, seen.base, work.commit):
            return seen.base
        if lost is not None and not landing.again(lost, tries, moved=before != seen):
            raise lost
        candidate = Candidate(commit=work.commit, base="")
        if seen.base:
            candidate = await landing.prepared(cache, seen.base, work)
        if not order.still_mine():
            raise landing.Suspended
        agent = record.assignment.agent
        mine = await fences.mark(
            cache, task=order.task, fence=order.fence, agent=agent, commit=candidate.commit
        )
        moves = [Move(ref=f"refs/heads/{branch}", new=candidate.commit, old=seen.base)]
        if seen.commit != mine:
            moves.append(Move(ref=refs.fence_ref(order.task), new=mine, old=seen.commit))
        try:
            await lfs.push(cache, *moves)
        except git.GitFailed as failure:
            lost, before = failure, seen
            if repositories.may_pass(failure):
                await repositories.pause(tries)
        else:
            return candidate.commit
    raise AssertionError("the loop returns or raises")


def _check(seen: Seen, order: Order) -> None:
    if seen.fence is not None and seen.fence > order.fence:
        raise fences.overtaken(seen.fence)


# Its words ----------------------------------------------------------------------------------------


def _title(record: Record) -> str:
    return note.one_line(record.body.spec.title, limits.TITLE_CHARS)


def _body(order: Order) -> str:
    record, assignment, result = order.record, order.record.assignment, order.record.result
    by = f"attempt {order.fence.attempt} by `{assignment.agent}`"
    lines = [f"Task `{order.task}`, {by}, asked for by {record.body.submitter}.", ""]
    said = handover.note_of(result.summary) if result is not None else assignment.note
    if said:
        lines += [*review.quoted(said), ""]
    lines += _checks(record)
    for remark in result.needs_person[:PLACES_MAX] if result is not None else ():
        lines.append(f"- Look at this: {_code(remark)}")
    lines += [_spent(record.turns), "", review.mark(order.task, order.fence)]
    return "\n".join(lines)


def _checks(record: Record) -> list[str]:
    report = record.result.report if record.result is not None else None
    if report is None or not report.checks:
        return ["Not verified: the base declares no checks.", ""] if record.result else []
    rows = [
        f"| {_code(check.name)} | {'passed' if check.passed else 'failed'} |"
        for check in report.checks[:PLACES_MAX]
    ]
    return [f"Checked at {report.commit[:12]}:", "", "| check | result |", "|---|---|", *rows, ""]


def _spent(turns: tuple[TurnUsage, ...]) -> str:
    if not turns:
        return "What it cost: `agentcom task show` knows."
    tokens = sum(turn.input + turn.output for turn in turns)
    minutes = sum(turn.wall_ms for turn in turns) / 60_000
    return f"Spent by this attempt: {tokens:,} tokens in {len(turns)} turns, {minutes:.1f} minutes."


def _code(text: str) -> str:
    return f"`{note.one_line(text, 200).replace('`', chr(39)).replace('|', '/')}`"
