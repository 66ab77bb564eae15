"""Somebody who asks the hub a small thing all the time, and looks at its memory."""

import contextlib
import threading
import time
from types import TracebackType
from typing import Final, Self

import httpx

from agentcom.testing.hub_process import HubProcess, resident_bytes, waited_s

EVERY_S: Final = 0.1


class Probe:
    """Asks from a thread of its own until the `with` block is left, whenever the hub is up."""

    def __init__(self, hub: HubProcess) -> None:
        self._hub = hub
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.waits_s: list[float] = []
        """How long each answer took: no event loop was blocked for longer."""
        self.resident: list[int] = []
        self._waited: dict[int, tuple[float, float]] = {}

    @property
    def starved_s(self) -> float:
        """How long the hub, in all its lives, wanted a core and had none: others had them."""
        return sum(last - first for first, last in self._waited.values())

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._hub.url, trust_env=False, timeout=30) as http:
            while not self._over.wait(EVERY_S):
                began = time.monotonic()
                with contextlib.suppress(httpx.HTTPError, OSError):
                    http.get("/healthz").raise_for_status()
                    self.waits_s.append(time.monotonic() - began)
                    self._look(self._hub.pid)

    def _look(self, pid: int) -> None:
        self.resident.append(resident_bytes(pid))
        waited = waited_s(pid)
        self._waited[pid] = self._waited.get(pid, (waited,))[0], waited
