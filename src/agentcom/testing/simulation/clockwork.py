"""The schedules of a run, and whether each planned time has its run: at most one, and not none.

Looks at every durable batch. What a run was planned for is told by its request key; what became of
a time is told by the schedule's row, whose next time may pass over none that it does not excuse.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from agentcom.core import loops
from agentcom.hub.cron import Cron
from agentcom.model.batch import Batch, Insert, Table, Update
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import DEFAULT_PROJECT, UserId, WallTime
from agentcom.model.limits import SCHEDULE_LATE_MS
from agentcom.model.schedule import Missed, Overlap, Schedule, schedule_key
from agentcom.model.task import Task, TaskSpec
from agentcom.testing.simulation.clocks import EPOCH_MS
from agentcom.testing.simulation.hub_node import HubNode
from agentcom.testing.simulation.trace import Trace

OPERATOR: Final = Identity(role=Role.ADMIN, user=UserId("op"), credential="op")
WITHIN_MS: Final = 900_000
"""Runs of a clock that was set far ahead expire, so that a run comes to its rest."""
_KINDS: Final = (
    ("all", "*/4 * * * *", Missed.ALL, Overlap.QUEUE),
    ("once", "*/3 * * * *", Missed.ONCE, Overlap.SKIP),
    ("skip", "*/5 * * * *", Missed.SKIP, Overlap.QUEUE),
)
_PERIOD_MS: Final = 300_000
"""The longest of their periods."""
_DAY_MS: Final = 86_400_000
_ONE: Final = "a planned time runs at most once"
_NONE: Final = "a planned time has its run"
_WAITS: Final = "a schedule waits for its next time"


class Clockwork:
    """Knows every schedule, and every planned time that had its run."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._rows: dict[str, Schedule] = {}
        self._ran: dict[tuple[str, int], None] = {}
        self._tasks = 0
        self._long: dict[tuple[str, int, int], None] = {}
        """Schedules that waited too long at the last look."""

    def rows(self, owner: UserId) -> list[Insert]:
        """Return the schedules of a run, as rows to write."""
        return [
            Insert(Table.SCHEDULE, schedule_key(row.project, row.name), row)
            for row in (_schedule(owner, *kind) for kind in _KINDS)
        ]

    @property
    def rests(self) -> bool:
        """Whether no schedule goes on."""
        return all(row.paused for row in self._rows.values())

    def rest(self, hub: HubNode) -> None:
        """Pause every schedule: the run is over."""
        for row in self._rows.values():
            if hub.ready and hub.services is not None and not row.paused:
                hub.run(_pause(hub, row.name))

    def restored(self, batches: Iterable[Batch]) -> None:
        """Begin anew with what a restored store holds."""
        self._rows.clear()
        self._ran.clear()
        self._tasks = 0
        for batch in batches:
            self.committed(batch, ())

    def check_waits(self, hub: HubNode) -> None:
        """Look for what the hub waits for: nothing beyond a time that only a wrong clock saw."""
        services, now = hub.services, hub.clock.now().wall
        before, self._long = self._long, {}
        if (
            services is None
            or hub.loop is None
            or hub.loop.frozen
            or not services.schedules.is_idle
        ):
            return
        for name in [row.name for row in self._rows.values()]:
            row = services.schedules.find(OPERATOR, name)
            last = row.last_at or 0
            start = last if now < last <= now + _DAY_MS else now
            if row.paused or row.next_at is None or row.next_at <= start + _PERIOD_MS:
                continue
            # The clock may have been set just now, and the hub not have looked at it since.
            self._long[name, hub.deaths, hub.clock.settings] = None
        self._trace.check(_WAITS, not (self._long.keys() & before.keys()), self._long)

    def committed(self, batch: Batch, walls: Sequence[WallTime]) -> None:
        """Look at a durable batch; no `walls` for one that was looked at before.

        They are the times by which it may have been decided, before the clock was set.
        """
        for change in batch.changes:
            match change:
                case Insert(table=Table.REQUEST, key=key):
                    self._run(key)
                case Insert(row=Task(lineage=lineage)) if lineage.startswith(loops.SCHEDULE):
                    self._tasks += 1
                case Insert(row=Schedule() as row, key=key):
                    self._rows[key] = row
                case Update(row=Schedule() as row, key=key):
                    if walls:
                        self._check_moved(self._rows[key], row, walls)
                    self._rows[key] = row
                case _:
                    pass
        once = self._tasks == len(self._ran)
        self._trace.check(_ONE, once, (self._tasks, len(self._ran)))

    def _run(self, key: str) -> None:
        _, kind, *rest = key.split("/")
        if kind == "schedule":
            name = (rest[0], int(rest[1]))
            self._trace.check(_ONE, name not in self._ran, key)
            self._ran[name] = None
            self._trace.counts["schedule runs"] += 1

    def _check_moved(self, old: Schedule, new: Schedule, walls: Sequence[WallTime]) -> None:
        """Each time that a schedule has passed ran, or may be left out by what it is."""
        first, following = old.next_at, new.next_at
        if first is None or following is None or old.paused or new.paused:
            return
        times = Cron(new.cron, new.zone).newest(first, WallTime(following - 1), 100)
        wanted = times if new.missed is Missed.ALL else times[-1:]
        for at in wanted:
            ran = (new.id, at) in self._ran
            excused = ran or any(self._is_excused(new, at, now) for now in walls)
            self._trace.check(_NONE, excused, (new, at, walls))

    def _is_excused(self, row: Schedule, at: WallTime, now: WallTime) -> bool:
        if row.missed is Missed.SKIP:
            return now - at > SCHEDULE_LATE_MS
        if row.missed is Missed.ALL:
            return now - at >= WITHIN_MS
        if row.next_at is not None and row.next_at <= now:
            return True  # a newer time has passed as well, and stands for this one
        return row.reason is not None and "had not ended" in row.reason


async def _pause(hub: HubNode, name: str) -> None:
    services = hub.services
    if services is not None:
        await services.schedules.pause(OPERATOR, name)


def _schedule(owner: UserId, name: str, cron: str, missed: Missed, overlap: Overlap) -> Schedule:
    return Schedule(
        id=f"s-{name}",
        project=DEFAULT_PROJECT,
        owner=owner,
        name=name,
        cron=cron,
        zone="UTC",
        task=TaskSpec(title=f"scheduled {name}", prompt="do it", deadline_ms=120_000),
        missed=missed,
        overlap=overlap,
        start_within_ms=WITHIN_MS if missed is Missed.ALL else None,
        next_at=Cron(cron, "UTC").after(WallTime(EPOCH_MS)),
    )
