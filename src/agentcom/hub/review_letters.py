"""Letters about pull requests that were closed without being merged.

Who submitted the task is told, and the agent whose task it is a part of, which may be waiting for
it. Each attempt's end is told once, under its name; what a hub did not come to before it stopped,
the next one finds in the tasks when it starts.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

from agentcom.core.effects import TellClosed
from agentcom.core.view import PoolView
from agentcom.hub import errands
from agentcom.hub.clock import Clock
from agentcom.hub.mail import Mail
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import address
from agentcom.model.address import HUB, Address
from agentcom.model.batch import Table
from agentcom.model.failure import FailureClass
from agentcom.model.replies import Done
from agentcom.model.task import Task, TaskState
from agentcom.store.base import Query, Store

WAITING_MAX: Final = 1_000
"""Letters that are not written yet; people close one pull request at a time."""
LOOK_BACK_MS: Final = 86_400_000
"""A hub that starts looks at what was closed lately: it may have stopped before it told."""
PAGE_ROWS: Final = 500


class ReviewLetters:
    """Writes them."""

    def __init__(
        self,
        mail: Mail,
        writer: Writer,
        *,
        store: Store,
        clock: Clock,
        view: Callable[[], PoolView],
    ) -> None:
        self._mail = mail
        self._writer = writer
        self._store = store
        self._clock = clock
        self._view = view
        self._due: deque[TellClosed] = deque(maxlen=WAITING_MAX)
        self._news = asyncio.Event()

    def told(self, closed: TellClosed) -> None:
        """Note that a pull request was closed."""
        self._due.append(closed)
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled; a supervisor's child."""
        await self._catch_up()
        await errands.run(self._news, self.work)

    async def work(self) -> None:
        """Write what there is to write now."""
        while self._due:
            closed = self._due[0]
            await self._write(closed)
            if self._due and self._due[0] is closed:
                self._due.popleft()

    async def _catch_up(self) -> None:
        since, before = self._clock.now().wall - LOOK_BACK_MS, None
        where: dict[str, Sequence[str]] = {"state": (TaskState.FAILED.value,)}
        while True:
            query = Query(table=Table.TASK, where=where, before=before, limit=PAGE_ROWS)
            page = await self._store.query(query)
            for task in cast("list[Task]", page.rows):
                closed = task.failure is FailureClass.REJECTED and task.pull_request is not None
                if closed and task.changed_at >= since:
                    self.told(TellClosed(task, task.reason or ""))
            before = page.next
            if before is None:
                return

    async def _write(self, closed: TellClosed) -> None:
        task = closed.task
        text = (
            f"{closed.said}. The task {task.id} ({task.title}) has failed as rejected. Its branch "
            f"{task.branch} is still there; `agentcom task retry {task.id}` begins again, with a "
            "new pull request."
        )

        async def decide(draft: Draft) -> Done:
            for to in self._whom(task):
                await self._mail.notice(draft, task.project, to, text, task=task.id)
            return Done()

        name = f"closed/{task.id}/{task.incarnation}.{task.attempt}"
        await self._writer.once(HUB, Asked(cause="review", key=name), decide)

    def _whom(self, task: Task) -> Iterator[Address]:
        yield address.of_user(task.submitter)
        above = self._view().tasks.get(task.parents[-1]) if task.parents else None
        if above is not None and above.agent is not None:
            yield address.of_agent(above.agent)
