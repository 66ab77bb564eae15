"""The turns of one run, numbered as they end, with what each spent.

The numbers depend on the run's output alone: a sidecar that reads it a second time, after a
restart or to close the books of a stopped run, names the same turns.
"""

from collections.abc import Mapping
from typing import Final

from agentcom.model.ids import AgentId
from agentcom.model.limits import TURNS_MAX
from agentcom.model.usage import TurnUsage
from agentcom.sidecar.runtime import base

INCLUDED: Final = "included"
"""The value of an agent's setting `billing` that says: a subscription pays for it."""


class Turns:
    """Counts what a run spends."""

    def __init__(self, agent: AgentId, runtime: str, settings: Mapping[str, str]) -> None:
        self._agent = agent
        self._runtime = runtime
        self._included = settings.get("billing") == INCLUDED
        self._model = settings.get("model", "")
        self._told = base.Usage()
        self._last = 0
        self._ended_s: float | None = None

    def begin(self, now_s: float) -> None:
        """Take the time from which the first turn runs."""
        self._ended_s = now_s

    def another_run(self) -> None:
        """Count what a further run of the same attempt spends, from nothing."""
        self._told = base.Usage()

    def ended(self, spent: base.Usage, now_s: float) -> TurnUsage | None:
        """Return the turn that just ended; None if it cost nothing, or is left to `rest`."""
        if self._last + 1 >= TURNS_MAX:
            return None
        return self._turn(spent, now_s)

    def rest(self, total: base.Usage, now_s: float) -> TurnUsage | None:
        """Return what the run has spent beyond the turns told: one turn more, or None."""
        left = {
            name: max(0, getattr(total, name) - getattr(self._told, name))
            for name in ("input", "cached", "written", "output")
        }
        return self._turn(base.Usage(**left, model=total.model), now_s)

    def _turn(self, spent: base.Usage, now_s: float) -> TurnUsage | None:
        if not (spent.input or spent.output) or self._last >= TURNS_MAX:
            return None
        told = self._told
        self._told = base.Usage(
            told.input + spent.input,
            told.cached + spent.cached,
            told.output + spent.output,
            told.written + spent.written,
        )
        before, self._ended_s = self._ended_s, now_s
        self._model = spent.model or self._model
        self._last += 1
        return TurnUsage(
            turn=self._last,
            agent=self._agent,
            model=self._model,
            runtime=self._runtime,
            input=spent.input,
            cached=spent.cached,
            written=spent.written,
            output=spent.output,
            wall_ms=0 if before is None else int((now_s - before) * 1000),
            included=self._included,
        )
