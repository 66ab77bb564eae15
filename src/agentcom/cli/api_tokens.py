"""What commands ask of the hub about tokens; a part of `api.Hub`."""

from abc import ABC, abstractmethod
from typing import Any, TypeVar
from urllib.parse import quote

from agentcom.cli.output import Row, row_of
from agentcom.protocol import shown_tokens as shown

_Shown = TypeVar("_Shown")


class TokenCalls(ABC):
    """Makes, lists, replaces and ends tokens."""

    def tokens(self) -> list[dict[str, Any]]:
        """Return tokens, without their secrets."""
        return self._all("/tokens", shown.TokenList, "tokens")

    def create_token(self, **wanted: Any) -> dict[str, Any]:
        """Make a token."""
        return row_of(self._post("/tokens", _given(wanted), shown.NewToken))

    def add_service(self, **wanted: Any) -> dict[str, Any]:
        """Make a program's account, and its first token."""
        return row_of(self._post("/service-accounts", _given(wanted), shown.NewToken))

    def rotate_token(self, token_id: str, grace_ms: int | None = None) -> dict[str, Any]:
        """Replace a token; by default the old one works for another day."""
        path = f"/tokens/{quote(token_id, safe='')}/rotate"
        return row_of(self._post(path, _given({"grace_ms": grace_ms}), shown.NewToken))

    def revoke_token(self, token_id: str) -> None:
        """End a token."""
        self._send("DELETE", f"/tokens/{quote(token_id, safe='')}")

    @abstractmethod
    def _all(self, path: str, kind: type[Any], field: str) -> list[dict[str, Any]]: ...

    @abstractmethod
    def _post(
        self, path: str, body: Row | None, kind: type[_Shown], *, key: str | None = None
    ) -> _Shown: ...

    @abstractmethod
    def _send(self, method: str, path: str, params: Row | None = None) -> None: ...


def _given(wanted: Row) -> Row:
    return {name: value for name, value in wanted.items() if value is not None}
