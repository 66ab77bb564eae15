"""Those who look closer at a machine from afar: at an attempt's log, and at what it logs itself."""

import contextlib
from collections.abc import Callable

from agentcom.model.errors import InvalidInput
from agentcom.protocol.live import LogLevelFrame, LogPart, LogWanted
from agentcom.sidecar import whole_log
from agentcom.sidecar.config import Home
from agentcom.telemetry.levels import Levels


class Looking:
    """Answers them."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._levels = Levels()

    async def answer(
        self, asked: LogWanted | LogLevelFrame, send: Callable[[LogPart], None]
    ) -> None:
        """Send a part of a log, or log more for a while; what makes no sense changes nothing."""
        if isinstance(asked, LogWanted):
            await whole_log.show(self._home, asked, send)
            return
        with contextlib.suppress(InvalidInput):
            self._levels.set(asked.level, logger=asked.logger, for_ms=asked.for_ms)

    def end(self) -> None:
        """Log as usual again."""
        self._levels.close()
