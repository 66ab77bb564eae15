"""What belongs to a process that is a hub: its logs, its signals, and who runs it."""

import asyncio
import contextlib
import gc
import getpass
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Final

from agentcom.hub.config import HubConfig, LogFormat
from agentcom.telemetry import logs
from agentcom.telemetry.redact import secrets_of

GC_THRESHOLDS: Final = (50_000, 20, 50)
"""Values of the hot path are not tracked, so what is left to collect comes slowly; a full pass
over a million queued tasks would stop the loop for some 100 ms (measured)."""


def spare_the_collector() -> None:
    """Leave what was loaded alone, and look at the rest less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


@contextlib.contextmanager
def as_process(
    config: HubConfig, stop: asyncio.Event, reload: Callable[[], None]
) -> Iterator[None]:
    """Write logs, let the first signal to end set `stop`, and SIGHUP call `reload`.

    The second signal to end ends the process at once.
    """
    as_json = config.log_format is LogFormat.JSON or (
        config.log_format is LogFormat.AUTO and not sys.stderr.isatty()
    )
    level = logging.getLevelNamesMapping()[config.log_level.value.upper()]
    pipe = logs.configure(as_json=as_json, level=level, secrets=_secrets(config))
    loop = asyncio.get_running_loop()

    def asked(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)  # safe: whatever was acknowledged is on the disk
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, asked, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        for number in (*numbers, signal.SIGHUP):
            loop.remove_signal_handler(number)
        pipe.close()


def _secrets(config: HubConfig) -> set[str]:
    """Return what this hub knows that no log may show."""
    files = (config.forge_secret, config.otlp_headers)
    found = secrets_of(os.environ)
    for path in filter(None, files):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            lines = path.read_text("utf-8").splitlines()
            found |= {line.partition(": ")[2].strip() or line.strip() for line in lines}
    return found


def os_user() -> str:
    """Return the name of the operating system's user, if there is one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""
