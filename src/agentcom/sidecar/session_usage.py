"""Tokens of one run, for agents whose figures span their whole session.

Such an agent that goes on with a session states what the session has cost so far. What it stated
last is kept beside the task's folder; what was known when an attempt began, in the attempt's own
folder, so that an adopted run is counted as if it had never been left.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from agentcom.sidecar import repositories
from agentcom.sidecar.runtime import base

_FILE: Final = "usage.json"


class Stated(msgspec.Struct, frozen=True):
    """What a session had cost when its last run ended."""

    session: str = ""
    usage: base.Usage = base.Usage()


def load(folder: Path) -> Stated:
    """Return what was kept in `folder`; nothing is the start of every session."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((folder / _FILE).read_bytes(), type=Stated)
    return Stated()


def save(folder: Path, stated: Stated) -> None:
    """Keep what a session has cost so far."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    repositories.write(folder / _FILE, msgspec.json.encode(stated).decode())


class SinceBefore:
    """A parser that counts what its run has spent, of totals that span the session."""

    def __init__(self, parser: base.Parser, before: Stated) -> None:
        self._parser = parser
        self._before = before
        self._told = before.usage
        self._session = ""
        self._total = base.Usage()

    @property
    def stated(self) -> Stated | None:
        """What the session has cost by now; None if the run has not said."""
        if not self._session or self._total == base.Usage():
            return None
        return Stated(self._session, self._total)

    def feed(self, line: bytes) -> Sequence[base.RuntimeEvent]:
        """Return the events of one line, with the tokens since the last such event."""
        return [self._own(event) for event in self._parser.feed(line)]

    def finish(self, ended: base.Exit) -> base.Verdict:
        """Judge the run; its usage is its own."""
        verdict = self._parser.finish(ended)
        usage = _since(self._before.usage, verdict.usage)
        return msgspec.structs.replace(verdict, usage=usage)

    def _own(self, event: base.RuntimeEvent) -> base.RuntimeEvent:
        if isinstance(event, base.SessionStarted):
            self._session = event.id
            if event.id != self._before.session:
                self._before = Stated()
                self._told = base.Usage()
        if not isinstance(event, base.Usage):
            return event
        spent = _since(self._told, event)
        self._told = self._total = event
        return spent


def _since(before: base.Usage, total: base.Usage) -> base.Usage:
    names = ("input", "cached", "written", "output")
    spent = {name: getattr(total, name) - getattr(before, name) for name in names}
    if any(number < 0 for number in spent.values()):
        return total  # the agent began to count anew
    return base.Usage(**spent, model=total.model)
