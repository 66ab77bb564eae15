"""A service works when there is news, when something is due, and again after a failure."""

import asyncio
from collections.abc import Callable

import pytest

from agentcom.hub import errands
from agentcom.model.errors import Unavailable


class Errand:
    """Counts its runs; fails as it is told."""

    def __init__(self, fails: int = 0) -> None:
        self.news = asyncio.Event()
        self.done = asyncio.Event()
        self.runs = 0
        self._fails = fails

    async def work(self) -> None:
        self.runs += 1
        if self.runs <= self._fails:
            raise Unavailable("the store takes nothing")
        self.done.set()

    async def once(self, within_s: Callable[[], float | None]) -> None:
        """Run until work was done."""
        service = asyncio.create_task(errands.run(self.news, self.work, within_s=within_s))
        async with asyncio.timeout(20):
            await self.done.wait()
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)


async def test_what_is_due_is_done_without_news() -> None:
    errand = Errand()

    await errand.once(lambda: 0)

    assert errand.runs == 1


async def test_what_failed_is_tried_again_without_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "AGAIN_S", 0)
    errand = Errand(fails=2)
    errand.news.set()

    await errand.once(lambda: None)

    assert errand.runs == 3
