"""What this machine believes to hold, and when, as JSON lines: evidence for fault tests.

`AGENTCOM_LEASE_LOG=PATH` turns it on. Times are boot-time milliseconds, so the logs of several
machines on one computer can be compared: no two of them may ever hold one task at a time.
"""

import json
import os
from pathlib import Path
from typing import IO, Final

from agentcom.model.ids import Instant
from agentcom.sidecar.machine_attempts import REPORTS
from agentcom.sidecar.machine_values import Key, Stage, View

VARIABLE: Final = "AGENTCOM_LEASE_LOG"
_OVER: Final = REPORTS | {Stage.STOPPING}
"""What is being stopped acts for nobody any more."""


class LeaseLog:
    """Writes a line when a belief begins, is prolonged, or ends before its time."""

    def __init__(self, path: Path) -> None:
        # Kept open; a line is one write, so a kill leaves whole lines.
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._until: dict[Key, Instant] = {}
        self._finished: set[Key] = set()

    def note(self, view: View, now: Instant) -> None:
        """Write down what has changed."""
        believed = {
            key: view.lease_until
            for key, attempt in view.attempts.items()
            if attempt.stage not in _OVER and view.lease_until > now
        }
        for key, until in believed.items():
            if self._until.get(key) != until:
                self._write(key, at=now, until=until)
        for key, until in self._until.items():
            if key not in believed and until > now:
                self._write(key, end=now)
        self._until = believed
        for key, attempt in view.attempts.items():
            if attempt.stage is Stage.FINISHED and attempt.stored and key not in self._finished:
                self._finished.add(key)
                self._write(key, finished=now)

    def _write(self, key: Key, **fields: int) -> None:
        fence = [key.fence.incarnation, key.fence.attempt]
        line = {"task": key.task, "fence": fence, "pid": os.getpid(), **fields}
        self._file.write(json.dumps(line).encode() + b"\n")


def from_environment() -> LeaseLog | None:
    """Return the log that the environment asks for, if it does."""
    path = os.environ.get(VARIABLE)
    return LeaseLog(Path(path)) if path else None
