"""A further attempt at work that is under review: where it begins, and what its agent is shown."""

import asyncio
import functools
from pathlib import Path
from typing import Final

import msgspec

from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import LandPolicy
from agentcom.sidecar import repositories, review, trying
from agentcom.sidecar.checks import CheckPlan
from agentcom.sidecar.config import Home
from agentcom.sidecar.forge.base import PullState
from agentcom.sidecar.forge.finding import Forges
from agentcom.sidecar.machine_values import Key, Record
from agentcom.sidecar.places import Over
from agentcom.sidecar.repositories import Repositories
from agentcom.sidecar.reviews import number_in

_FILE: Final = "review.json"


class Round(msgspec.Struct, frozen=True):
    """What one attempt has to do with a review."""

    names: tuple[str, ...] = ()
    """What its agent is shown, by name."""
    commit: str | None = None
    """Where it begins; None: where it would without a review."""
    section: str = ""
    """What its prompt ends with."""


NONE: Final = Round()


class Rounds:
    """Asks forges what attempts should know of them."""

    def __init__(self, home: Home, forges: Forges, caches: Repositories) -> None:
        self._home = home
        self._forges = forges
        self._caches = caches

    async def begin(self, record: Record) -> Round:
        """Return what reviewers want of an attempt, and remember it for its result.

        Raises:
            Over: the review is over, and so is the attempt.
            ForgeError: the forge does not say.
        """
        url, repo = record.assignment.pull_request, record.body.spec.repo
        if url is None or repo is None:
            return NONE
        forge = await self._forges.of(repo)
        pull = await forge.show(number_in(url))
        if pull.state is not PullState.OPEN:
            raise Over(_over(record, pull.commit, repo))
        clashes = functools.partial(trying.conflicts, self._caches, repo)
        asked = await review.Reader(forge, clashes).asked(pull, record.key.task)
        section = review.section(asked, pull) if asked else ""
        names = asked.names[: review.REVIEWED_MAX]
        found = Round(names=names, commit=pull.commit or None, section=section)
        await asyncio.to_thread(self._keep, record.key, found)
        return found

    async def check(self, record: Record, plan: CheckPlan) -> None:
        """Make sure, before hours of work, that this machine can bring it to review.

        Raises:
            ForgeError: it cannot.
        """
        repo = record.body.spec.repo
        if plan.land is LandPolicy.PULL_REQUEST and repo is not None:
            await self._forges.check(repo)

    def with_names(self, record: Record, result: Result) -> Result:
        """Return a result that says what of the review its agent was shown."""
        if record.assignment.pull_request is None:
            return result
        try:
            known = msgspec.json.decode(self._place(record.key).read_bytes(), type=Round)
        except (FileNotFoundError, msgspec.DecodeError):
            return result
        return msgspec.structs.replace(result, reviewed=known.names)

    def _keep(self, key: Key, found: Round) -> None:
        place = self._place(key)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        repositories.write(place, msgspec.json.encode(found).decode())

    def _place(self, key: Key) -> Path:
        return self._home.attempt(key.text) / _FILE


def _over(record: Record, commit: str, repo: str) -> Result:
    """Return the result whose landing finds what became of the pull request."""
    key = record.body.spec.base or ""
    return Result(
        status=ResultStatus.DONE,
        message="its pull request is not open any more",
        commit=commit,
        branch=record.assignment.branch,
        land=LandPolicy.PULL_REQUEST,
        land_key=f"{repo}#{key}",
    )
