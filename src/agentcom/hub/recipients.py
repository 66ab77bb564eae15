"""Whom people and agents mean by a name, and whether there is one."""

from collections.abc import Callable, Sequence
from typing import Final, cast

from agentcom.core import mail
from agentcom.core.view import PoolView
from agentcom.model import address
from agentcom.model.address import Address, AddressKind
from agentcom.model.batch import Table
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.identity import User
from agentcom.model.ids import AgentId, ProjectId, TaskId, UserId
from agentcom.model.task import Task, TaskState
from agentcom.store.base import Query, Store

PAGE: Final = 500  # users of one read
_OWN: Final = "you cannot write to yourself; keep a note instead"


class Recipients:
    """The agents and people of each project, by name."""

    def __init__(self, store: Store, view: Callable[[], PoolView]) -> None:
        self._store = store
        self._view = view

    async def all_of(
        self, names: Sequence[str], project: ProjectId, *, but: Address
    ) -> tuple[Address, ...]:
        """Return the addresses of several names, each once.

        Raises:
            InvalidInput: a name is ambiguous, is none, or is that of `but`.
            NotFound: there is nobody of that name.
        """
        found = [await self.of(name, project) for name in dict.fromkeys(names)]
        if but in found:
            raise InvalidInput("to", _OWN)
        return tuple(dict.fromkeys(found))

    async def of(self, text: str, project: ProjectId) -> Address:
        """Return the address of one name, written out or bare.

        Raises:
            InvalidInput: it is ambiguous, or is no name.
            NotFound: there is nobody of that name.
        """
        kind, name = address.parse(text)
        found = await self.named(kind, name, project)
        if not found:
            raise NotFound(
                f"there is no agent or person {text}; see who is there"
                if kind is not AddressKind.TASK
                else f"there is no {text}, or it is completed and nobody works on it any more"
            )
        if len(found) > 1:
            raise InvalidInput("to", f"there are two of that name: write {' or '.join(found)}")
        return found[0]

    async def named(
        self, kind: AddressKind | None, name: str, project: ProjectId
    ) -> Sequence[Address]:
        """Return who has a name: nobody, an agent, a person, or (with kind None) both."""
        if kind is AddressKind.TASK:
            there = await self._is_task(TaskId(name), project)
            return [address.of_task(TaskId(name))] if there else []
        found: list[Address] = []
        if kind is not AddressKind.USER and mail.is_of(self._view(), AgentId(name), project):
            found.append(address.of_agent(AgentId(name)))
        if kind is not AddressKind.AGENT and await self._is_person(name, project):
            found.append(address.of_user(UserId(name)))
        return found

    async def everyone(self, project: ProjectId, limit: int) -> Sequence[Address]:
        """Return agents, then people of a project, each by name, `limit` of them at most."""
        agents = sorted(row.id for row in self._view().agents.values() if row.project == project)
        found = [address.of_agent(name) for name in agents[:limit]]
        after: str | None = ""
        while after is not None and len(found) < limit:
            page = await self._store.query(Query(table=Table.USER, after=after, limit=PAGE))
            found += [
                address.of_user(row.id)
                for row in cast("Sequence[User]", page.rows)
                if row.project == project and not row.removed
            ]
            after = page.next
        return found[:limit]

    async def _is_person(self, name: str, project: ProjectId) -> bool:
        (row,) = await self._store.get([(Table.USER, name)])
        return isinstance(row, User) and not row.removed and row.project == project

    async def _is_task(self, name: TaskId, project: ProjectId) -> bool:
        """Tell whether someone works on a task, or will, or may if it is tried again."""
        row = self._view().tasks.get(name)
        if row is None:
            (kept,) = await self._store.get([(Table.TASK, name)])
            row = kept if isinstance(kept, Task) else None
        if row is None or row.project != project:
            return False
        return row.state is not TaskState.COMPLETED
