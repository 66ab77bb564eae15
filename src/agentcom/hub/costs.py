"""What people read of costs: sums of what agents spent, by whatever they ask for.

The store adds up. A submitter sees what their own tasks cost, others their project's.
"""

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from agentcom.model import policy
from agentcom.model.archive import Dossier
from agentcom.model.batch import Table
from agentcom.model.identity import Identity
from agentcom.model.ids import WallTime
from agentcom.model.limits import COST_GROUPS_MAX, PAGE_MAX
from agentcom.model.policy import Action, Reach
from agentcom.model.task import Task
from agentcom.protocol.shown import CostList, CostShown
from agentcom.store.base import Store
from agentcom.store.sums import Sum, Sums

_COLUMNS: Final = (
    *("cost_micros", "input", "cached", "written", "output"),
    *("included", "unpriced", "late", "wall_ms", "turns"),
)
"""In the order of the fields of `CostShown`, but for the last, which is its second; the first one
is what groups are ordered by."""
ARCHIVED: Final = "archived"
"""Stands for all tasks that are in the archive: what they cost is kept by day."""
_FIRST_DAY: Final = date(1970, 1, 1).toordinal()


class CostBy(StrEnum):
    """What costs can be split by."""

    PROJECT = "project"
    AGENT = "agent"
    MODEL = "model"
    SUBMITTER = "submitter"
    TASK = "task"
    ACCOUNT = "account"
    DAY = "day"


class CostAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which costs to show."""

    by: CostBy = CostBy.PROJECT
    since: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)] = 0
    """UTC milliseconds since 1970."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=COST_GROUPS_MAX)] = PAGE_MAX


class Costs:
    """Reads costs for one caller at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def costs(self, identity: Identity, asked: CostAsked) -> CostList:
        """Return what was spent, split as asked, with the sum of all."""
        where = _where(identity)
        least = {"at": asked.since}
        query = Sums(
            table=Table.USAGE,
            columns=_COLUMNS,
            by=asked.by.value,
            where=where,
            least=least,
            limit=asked.limit + 1,
        )
        found = [_shown(one, asked.by) for one in await self._store.sums(query)]
        groups = found[: asked.limit]
        if asked.by is CostBy.DAY:
            groups.sort(key=lambda group: group.name or "")
        whole = Sums(table=Table.USAGE, columns=_COLUMNS, where=where, least=least)
        total = await self._total(whole)
        return CostList(
            by=asked.by.value,
            since=WallTime(asked.since),
            groups=tuple(groups),
            total=total,
            more=len(found) > len(groups),
        )

    async def of_task(self, identity: Identity, task: Task) -> CostShown | None:
        """Return what a task has cost so far; None if nothing, or if it is not the caller's."""
        own = policy.reach(identity, Action.COST_READ) is Reach.OWN
        if own and task.submitter != identity.user:
            return None
        spent = await self._total(
            Sums(table=Table.USAGE, columns=_COLUMNS, prefix=f"{task.id}/")  # of `usage_key`
        )
        return spent if spent.turns else None

    def of_archived(self, identity: Identity, dossier: Dossier) -> CostShown | None:
        """Return what a task in the archive has cost; None as in `of_task`."""
        own = policy.reach(identity, Action.COST_READ) is Reach.OWN
        if not dossier.usage or (own and dossier.task.submitter != identity.user):
            return None
        sums = [sum(int(getattr(turn, name) or 0) for turn in dossier.usage) for name in _COLUMNS]
        return _shown(Sum(None, len(dossier.usage), tuple(sums)), None)

    async def _total(self, asked: Sums) -> CostShown:
        found = await self._store.sums(asked)
        return _shown(found[0], None) if found else CostShown()


def _where(identity: Identity) -> dict[str, Sequence[str]]:
    where: dict[str, Sequence[str]] = {"project": [identity.project]}
    if policy.reach(identity, Action.COST_READ) is Reach.OWN:
        where["submitter"] = [identity.user]
    return where


def _shown(one: Sum, by: CostBy | None) -> CostShown:
    name = one.value
    if by is CostBy.DAY:
        assert isinstance(name, int)
        name = date.fromordinal(_FIRST_DAY + name).isoformat()
    if by is CostBy.TASK:
        name = name or ARCHIVED
    *sums, turns = one.sums
    return CostShown(None if name is None else str(name), turns, *sums)
