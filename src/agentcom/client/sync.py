"""The client for programs without an event loop: the same calls, blocking.

A private loop runs in a thread of its own; every call is handed to it. Safe from any thread.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from agentcom.client.follow import News
from agentcom.client.follows import ALL
from agentcom.client.http import Params
from agentcom.client.hub import REQUEST_TIMEOUT_S, HubClient
from agentcom.model.event import TaskEvent
from agentcom.model.ids import TaskId
from agentcom.model.replies import Submitted
from agentcom.model.task import Task, TaskSpec

T = TypeVar("T")


class SyncHubClient:
    """A hub, as a blocking program sees it; made by `connect`. Raises what `HubClient` raises."""

    def __init__(self, portal: "_Portal", client: HubClient) -> None:
        self._portal = portal
        self._client = client

    @classmethod
    def connect(
        cls,
        url: str,
        token: str,
        *,
        fingerprint: str | None = None,
        insecure: bool = False,
        proxy: str | bool = True,
        software: str = "agentcom",
    ) -> Self:
        """Connect to the hub at `url`."""
        portal = _Portal()
        try:
            client = portal.call(
                HubClient.connect(
                    url,
                    token,
                    fingerprint=fingerprint,
                    insecure=insecure,
                    proxy=proxy,
                    software=software,
                )
            )
        except BaseException:
            portal.close()
            raise
        return cls(portal, client)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the client."""
        self.close()

    def close(self) -> None:
        """Let go of the hub and end the thread."""
        self._portal.call(self._client.close())
        self._portal.close()

    def submit(
        self,
        specs: Sequence[TaskSpec],
        key: str | None = None,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Submitted:
        """Ask for tasks, all or none."""
        return self._portal.call(self._client.submit(specs, key, timeout_s=timeout_s))

    def cancel(
        self,
        task: TaskId,
        reason: str = "",
        key: str | None = None,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Task:
        """Ask for a task to end."""
        return self._portal.call(self._client.cancel(task, reason, key, timeout_s=timeout_s))

    def wait(self, task: TaskId, *, timeout_s: float | None = None) -> TaskEvent:
        """Return the event with which a task ended."""
        return self._portal.call(self._client.wait(task, timeout_s=timeout_s))

    def follow(
        self, task: str = ALL, after: int = 0, *, progress: bool = False, live_only: bool = False
    ) -> Iterator[News]:
        """Yield the events of a task, or of all, after a sequence."""
        context = self._client.following(task, after, progress=progress, live_only=live_only)
        events = self._portal.call(context.__aenter__())
        try:
            while True:
                yield self._portal.call(events.__anext__())
        finally:
            self._portal.call(context.__aexit__(None, None, None))

    def get(self, path: str, kind: type[T], params: Params | None = None) -> T:
        """Return what is at `path` of the HTTP interface, decoded as `kind`."""
        return self._portal.call(self._client.get(path, kind, params))

    def post(self, path: str, kind: type[T], body: Any = None, *, key: str | None = None) -> T:
        """Send `body` to `path` of the HTTP interface, once per `key`."""
        return self._portal.call(self._client.post(path, kind, body, key=key))

    def patch(self, path: str, kind: type[T], body: Any, *, key: str | None = None) -> T:
        """Change what is at `path` of the HTTP interface, once per `key`."""
        return self._portal.call(self._client.patch(path, kind, body, key=key))

    def do(self, work: Callable[[HubClient], Coroutine[Any, Any, T]]) -> T:
        """Return what `work` makes of the client beneath, such as `hub.schedules.all()`."""
        return self._portal.call(work(self._client))


class _Portal:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="agentcom-client", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the loop and return what it returns; an interrupt cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
