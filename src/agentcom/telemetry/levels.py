"""How much a running process logs: a level for everything and for single loggers, for a time.

What is raised falls back by itself, so that nobody finds a full disk in the morning.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from agentcom.model.errors import InvalidInput
from agentcom.telemetry import events

FOR_MS: Final = 600_000  # what is asked for lasts this long, unless said otherwise
FOR_MAX_MS: Final = 86_400_000  # a day: for longer it belongs into the settings
LOGGERS_MAX: Final = 32  # with a level of their own at once
LOGGER_CHARS_MAX: Final = 128
NAMES: Final = ("debug", "info", "warning", "error")
USUAL: Final = "usual"
"""No level: what the settings say."""

log = structlog.get_logger(__name__)


def check(level: str, *, logger: str, for_ms: int) -> None:
    """Raise `InvalidInput` unless a process may be asked to log so."""
    if level not in (*NAMES, USUAL):
        raise InvalidInput("level", f"one of {', '.join((*NAMES, USUAL))}")
    if not 0 < for_ms <= FOR_MAX_MS:
        raise InvalidInput("for_ms", f"from 1 to {FOR_MAX_MS}: a day")
    if len(logger) > LOGGER_CHARS_MAX or not logger.isprintable():
        raise InvalidInput("logger", f"at most {LOGGER_CHARS_MAX} printable characters")


class Override(NamedTuple):
    """One level that is not the usual one."""

    logger: str
    """Empty: all."""
    level: str
    left_ms: int


class Levels:
    """The levels of one process. Used from one event loop."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called after each change, for who holds on to a bound logger."""
        self._usual = logging.getLogger().level
        self._changed = changed
        self._set: dict[str, tuple[int, asyncio.TimerHandle]] = {}

    @property
    def usual(self) -> str:
        """The level of the settings."""
        return logging.getLevelName(self._usual).lower()

    def overrides(self) -> tuple[Override, ...]:
        """Return what is not as usual now."""
        now = asyncio.get_running_loop().time()
        return tuple(
            Override(logger, logging.getLevelName(level).lower(), int((end.when() - now) * 1_000))
            for logger, (level, end) in sorted(self._set.items())
        )

    def set(self, level: str, *, logger: str = "", for_ms: int = FOR_MS) -> None:
        """Log from this level on for a while; then as usual again.

        Raises:
            InvalidInput: there is no such level, the time is too long, or too many loggers.
        """
        check(level, logger=logger, for_ms=for_ms)
        if level == USUAL:
            self.reset(logger)
            return
        if logger not in self._set and len(self._set) >= LOGGERS_MAX:
            raise InvalidInput("logger", f"at most {LOGGERS_MAX} have a level of their own at once")
        former = self._set.pop(logger, None)
        if former is not None:
            former[1].cancel()
        end = asyncio.get_running_loop().call_later(for_ms / 1_000, self.reset, logger)
        self._set[logger] = logging.getLevelNamesMapping()[level.upper()], end
        self._apply(logger)
        log.warning(events.LOG_LEVEL, level=level, logger=logger or None, for_ms=for_ms)

    def usually(self, level: str) -> None:
        """Log from this level on where nothing else is asked for: the settings say so now."""
        self._usual = logging.getLevelNamesMapping()[level.upper()]
        self._apply("")

    def reset(self, logger: str = "") -> None:
        """Log as usual again."""
        former = self._set.pop(logger, None)
        if former is not None:
            former[1].cancel()
            self._apply(logger)
            log.warning(events.LOG_LEVEL, level=self.usual, logger=logger or None, for_ms=None)

    def close(self) -> None:
        """Put everything back, and wait for nothing any more."""
        for logger in list(self._set):
            self._set.pop(logger)[1].cancel()
            self._apply(logger)

    def _apply(self, logger: str) -> None:
        usual = logging.NOTSET if logger else self._usual
        level = self._set[logger][0] if logger in self._set else usual
        logging.getLogger(logger or None).setLevel(level)
        least = min([self._usual, *(one for one, _ in self._set.values())])
        # The loggers of the standard library decide; this only keeps the path to them open.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(least))
        self._changed()
