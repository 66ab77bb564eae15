"""What people read of users and tokens; never anything that proves an identity."""

from collections.abc import Sequence

from agentcom.hub.cursors import Cursors
from agentcom.hub.queries import page_limit
from agentcom.model.batch import Table
from agentcom.model.errors import NotFound
from agentcom.model.identity import Credential, Identity, Role, User
from agentcom.model.ids import UserId
from agentcom.model.limits import PAGE_MAX
from agentcom.protocol.shown import UserList
from agentcom.protocol.shown_tokens import TokenList, TokenShown
from agentcom.store.base import Query, Store


class People:
    """Reads users and credentials for one caller at a time."""

    def __init__(self, store: Store, cursors: Cursors) -> None:
        self._store = store
        self._cursors = cursors

    async def users(self, identity: Identity, *, cursor: str | None, limit: int) -> UserList:
        """Return the people of the caller's project, removed ones too."""
        before = self._cursors.read(identity, "users", cursor) if cursor else None
        query = Query(table=Table.USER, before=before, limit=page_limit(limit))
        page = await self._store.query(query)
        rows = [row for row in page.rows if isinstance(row, User)]
        mine = tuple(row for row in rows if row.project == identity.project)
        return UserList(mine, self._after(identity, "users", page.next))

    async def user(self, identity: Identity, name: str) -> User:
        """Return one person of the caller's project; raises `NotFound`."""
        (row,) = await self._store.get([(Table.USER, name)])
        if not isinstance(row, User) or row.removed or row.project != identity.project:
            raise NotFound("there is no such user, or not for this token")
        return row

    async def admin_count(self) -> int:
        """Return how many people administer the hub; enough to know whether one is the last."""
        query = Query(table=Table.USER, where={"role": [Role.ADMIN.value]}, limit=PAGE_MAX)
        page = await self._store.query(query)
        return sum(isinstance(row, User) and row.is_hub_admin for row in page.rows)

    async def tokens(
        self, identity: Identity, *, owner: UserId | None, cursor: str | None, limit: int
    ) -> TokenList:
        """Return the tokens of an owner (None: of everyone) in the caller's project."""
        listing = f"tokens?{owner or ''}"
        before = self._cursors.read(identity, listing, cursor) if cursor else None
        where: dict[str, Sequence[str]] = {} if owner is None else {"owner": [owner]}
        query = Query(table=Table.CREDENTIAL, where=where, before=before, limit=page_limit(limit))
        page = await self._store.query(query)
        rows = [row for row in page.rows if isinstance(row, Credential)]
        shown = tuple(token_shown(row) for row in rows if row.project == identity.project)
        return TokenList(shown, self._after(identity, listing, page.next))

    def _after(self, identity: Identity, listing: str, place: str | None) -> str | None:
        return self._cursors.make(identity, listing, place) if place else None


def token_shown(row: Credential) -> TokenShown:
    """Return what may be seen of a credential."""
    return TokenShown(
        id=row.id,
        kind=row.kind,
        role=row.role,
        owner=row.owner,
        created_at=row.created_at,
        expires_at=row.expires_at,
        machine=row.machine,
        note=row.note,
        uses_left=row.uses_left,
        grants=row.grants,
        last_used=row.last_used,
        revoked_at=row.revoked_at,
        replaced_by=row.replaced_by,
        scopes=row.scopes,
        service=row.service,
        idle_ms=row.idle_ms,
    )
