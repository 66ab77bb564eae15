"""Looking at open pull requests, as the hub says which: with conditional questions, by pauses.

Nothing is looked at while there is no pull request, or no hub to tell. What is seen is told at
each look until the hub does not want it any more, so nothing of it is stored.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Final

import structlog

from agentcom.model import errors, refs
from agentcom.model.ids import Instant
from agentcom.model.limits import REVIEWS_KEPT_MS
from agentcom.model.numerals import whole
from agentcom.model.result import ReviewOutcome
from agentcom.protocol.review import ReviewedFrame, ReviewFrame
from agentcom.sidecar import repositories, review, story, trying
from agentcom.sidecar.clock import Clock, SystemClock
from agentcom.sidecar.config import Settings
from agentcom.sidecar.forge.base import (
    Forge,
    ForgeDenied,
    ForgeError,
    ForgeLimited,
    PullRequest,
    PullState,
)
from agentcom.sidecar.forge.finding import Forges
from agentcom.sidecar.lifetime import cancel
from agentcom.sidecar.machine_values import Key
from agentcom.sidecar.repositories import Move, Repositories

WATCHED_MAX: Final = 1_000
"""Pull requests of one machine; the hub is told nothing of more."""
AT_ONCE_MAX: Final = 4
"""Looks at the same time: a forge answers one within a second."""
BACKOFF_FACTOR_MAX: Final = 32
"""Pauses grow to this many times the usual one while the forge does not answer."""

Tell = Callable[[ReviewedFrame], None]

_STRANGE: Final = (LookupError, TypeError, ValueError, AttributeError)
"""What an answer that is not as documented makes of the reading of it."""

log = structlog.get_logger(__name__)


class Reviews:
    """The pull requests that this machine watches."""

    def __init__(
        self,
        forges: Forges,
        caches: Repositories,
        settings: Settings,
        tell: Tell,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._forges = forges
        self._caches = caches
        self._pause_s = settings.review_poll_ms / 1_000
        self._tell = tell
        self._watched: dict[Key, asyncio.Task[None]] = {}
        self._heard: dict[Key, Instant] = {}
        """When the hub said last that it wants them watched."""
        self._clock = clock or SystemClock()
        self._room = asyncio.Semaphore(AT_ONCE_MAX)

    async def take(self, frame: ReviewFrame) -> None:
        """Begin to watch a pull request, look at it at once, or let it be."""
        key = Key(frame.task, frame.fence)
        known = self._watched.get(key)
        alive = known is not None and not known.done()
        if alive and frame.pull_request is not None and not frame.at_once:
            self._heard[key] = self._clock.now().instant
            return
        if known is not None:
            del self._watched[key]
            await cancel([known])
        if frame.pull_request is None:
            self._heard.pop(key, None)
            return
        if len(self._watched) >= WATCHED_MAX:
            log.warning("review.too_many", task=frame.task)
            return
        self._heard[key] = self._clock.now().instant
        with story.told({"cause": frame.cause, "task": frame.task}):
            self._watched[key] = asyncio.create_task(self._watch(frame, key))

    async def close(self) -> None:
        """Look at nothing any more; a hub that is there again says what it wants watched."""
        watched = list(self._watched.values())
        self._watched.clear()
        self._heard.clear()
        await cancel(watched)

    async def end(self) -> None:
        """Look at nothing any more, and end the connections to forges."""
        await self.close()
        await self._forges.close()

    async def _watch(self, frame: ReviewFrame, key: Key) -> None:
        reader: review.Reader | None = None
        failures = 0
        while self._is_wanted(key):
            pause_s = self._pause_s
            try:
                async with self._room:
                    forge = await self._forges.of(frame.repo)
                    reader = reader or review.Reader(forge, self._clashes_of(frame.repo))
                    seen = await self._look(frame, forge, reader)
                failures = 0
                if seen is not None:
                    self._tell(seen)
            except ForgeLimited as limited:
                pause_s = max(pause_s, limited.retry_after_ms / 1_000)
            except (errors.AgentComError, OSError, *_STRANGE) as error:
                failures += 1
                pause_s *= min(1 << failures, BACKOFF_FACTOR_MAX)
                reader = None
                if isinstance(error, ForgeDenied):
                    await self._forges.forget(frame.repo)
                log.warning("review.failed", task=frame.task, reason=str(error))
            await asyncio.sleep(pause_s)

    def _is_wanted(self, key: Key) -> bool:
        """Tell whether the hub spoke of it lately: its word to stop may have been lost."""
        if self._clock.now().instant - self._heard.get(key, 0) < REVIEWS_KEPT_MS:
            return True
        self._watched.pop(key, None)
        return False

    async def _look(
        self, frame: ReviewFrame, forge: Forge, reader: review.Reader
    ) -> ReviewedFrame | None:
        pull = await forge.show(number_in(frame.pull_request or ""))
        if pull.branch != frame.branch:
            raise ForgeError(f"{pull.url} is of the branch {pull.branch}, not {frame.branch}")
        match pull.state:
            case PullState.MERGED:
                await self._tidy(frame, pull)
                return _seen(frame, ReviewOutcome.MERGED, f"merged: {pull.url}", pull.merged_as)
            case PullState.CLOSED:
                said = f"{pull.url} was closed without being merged"
                return _seen(frame, ReviewOutcome.CLOSED, said)
            case PullState.OPEN:
                asked = await reader.asked(pull, frame.task)
                return _seen(frame, ReviewOutcome.WANTED, asked.words) if asked else None

    def _clashes_of(self, repo: str) -> review.Clashes:
        return functools.partial(trying.conflicts, self._caches, repo)

    async def _tidy(self, frame: ReviewFrame, pull: PullRequest) -> None:
        """Delete the branches of merged work at origin, those excepted that hold more."""
        try:
            cache = self._caches.cache(frame.repo)
            patterns = (f"refs/heads/{frame.branch}", f"refs/heads/agent/*/{frame.task}-*")
            args = ("ls-remote", "--refs", "--end-of-options", cache.url, *patterns)
            rows = (await cache.run(*args, remote=True)).text.splitlines()
            for commit, _, ref in (row.partition("\t") for row in rows):
                refs.check_branch(ref.removeprefix("refs/heads/"))
                if await self._is_in(cache, pull.commit, commit):
                    await repositories.push(cache, Move(ref=ref, new="", old=commit))
        except (errors.AgentComError, OSError) as error:
            log.warning("review.untidy", task=frame.task, reason=str(error))

    @staticmethod
    async def _is_in(cache: repositories.Cache, tip: str, commit: str) -> bool:
        await repositories.ensure(cache, [tip, commit])
        return await repositories.contains(cache, tip, commit)


def number_in(url: str) -> int:
    """Return the number of a pull request from its address.

    Raises:
        ForgeError: it has none.
    """
    number = whole(url.rstrip("/").rpartition("/")[2])
    if number is None:
        raise ForgeError(f"{url} is no pull request's address")
    return number


def _seen(
    frame: ReviewFrame, outcome: ReviewOutcome, detail: str, commit: str | None = None
) -> ReviewedFrame:
    return ReviewedFrame(
        task=frame.task, fence=frame.fence, outcome=outcome, detail=detail, commit=commit
    )
