"""The API of Gitea and Forgejo (v1), Codeberg's among them."""

from collections.abc import Sequence
from typing import Any, Final

from agentcom.sidecar.forge.api import Api
from agentcom.sidecar.forge.base import (
    Author,
    Comment,
    Draft,
    FailedCheck,
    Forge,
    ForgeMissing,
    PullRequest,
    PullState,
)
from agentcom.sidecar.forge.reading import commented, failed, number_of, text_of

_FAILED: Final = frozenset({"failure", "error"})
_MAY_WRITE: Final = frozenset({"owner", "admin", "write"})
_WANTS: Final = "REQUEST_CHANGES"
_SAID: Final = frozenset({"COMMENT", _WANTS, "APPROVED"})


def headers(token: str) -> dict[str, str]:
    """Return the headers that carry `token`."""
    return {"authorization": f"token {token}", "accept": "application/json"}


class Gitea(Forge):
    """A repository at Gitea or Forgejo."""

    def __init__(self, api: Api, path: str) -> None:
        self._api = api
        self._repo = f"/repos/{path}"

    async def login(self) -> str:
        return text_of(await self._api.get("/user"), "login")

    async def may_push(self) -> bool:
        found = await self._api.get(self._repo)
        return bool((found.get("permissions") or {}).get("push"))

    async def find(self, branch: str, base: str) -> PullRequest | None:
        del base  # there is no filter: the newest of the list are looked through
        asked = {"state": "all", "sort": "recentupdate"}
        found = [_pull(one) for one in await self._api.pages(f"{self._repo}/pulls", **asked)]
        return max((one for one in found if one.branch == branch), key=number_of, default=None)

    async def open(self, draft: Draft) -> PullRequest:
        body = {"title": draft.title, "head": draft.branch, "base": draft.base, "body": draft.body}
        return _pull(await self._api.send("POST", f"{self._repo}/pulls", body))

    async def describe(self, number: int, draft: Draft) -> None:
        body = {"title": draft.title, "body": draft.body}
        await self._api.send("PATCH", f"{self._repo}/pulls/{number}", body)

    async def show(self, number: int) -> PullRequest:
        return _pull(await self._api.get(f"{self._repo}/pulls/{number}"))

    async def comments(self, number: int) -> Sequence[Comment]:
        reviews = f"{self._repo}/pulls/{number}/reviews"
        said = await self._api.pages(f"{self._repo}/issues/{number}/comments")
        found = [commented("i", one, _author(one)) for one in said]
        for review in await self._api.pages(reviews):
            state = review.get("state")
            if state not in _SAID:
                continue
            told = {**review, "created_at": review.get("submitted_at")}
            wants, approves = state == _WANTS, state == "APPROVED"
            found.append(commented("v", told, _author(review), wants=wants, approves=approves))
            found += [
                commented("r", one, _author(one), path=one.get("path"), line=one.get("position"))
                for one in await self._api.pages(f"{reviews}/{int(review['id'])}/comments")
            ]
        return sorted(found, key=lambda one: one.at)

    async def failed_checks(self, commit: str) -> Sequence[FailedCheck]:
        found = await self._api.get(f"{self._repo}/commits/{commit}/status")
        rows = found.get("statuses") or ()
        return failed(
            (one.get("context"), one.get("target_url"))
            for one in rows
            if one.get("status") in _FAILED
        )

    async def writes(self, author: Author) -> bool:
        try:
            asked = f"{self._repo}/collaborators/{author.login}/permission"
            return (await self._api.get(asked)).get("permission") in _MAY_WRITE
        except ForgeMissing:
            return False

    async def say(self, number: int, body: str) -> None:
        await self._api.send("POST", f"{self._repo}/issues/{number}/comments", {"body": body})


def _author(one: dict[str, Any]) -> Author:
    user = one.get("user") or {}
    return Author(str(user.get("login") or ""))


def _pull(one: dict[str, Any]) -> PullRequest:
    merged, open_ = bool(one.get("merged")), one.get("state") == "open"
    head = one.get("head") or {}
    return PullRequest(
        number=int(one["number"]),
        url=text_of(one, "html_url"),
        state=PullState.MERGED if merged else PullState.OPEN if open_ else PullState.CLOSED,
        branch=text_of(head, "ref"),
        commit=text_of(head, "sha"),
        merged_as=text_of(one, "merge_commit_sha") or None if merged else None,
    )
