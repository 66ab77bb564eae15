"""GitLab's REST API (v4), of gitlab.com and of one's own servers; its merge requests."""

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

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

DEVELOPER: Final = 30
"""The least level of access that may push."""
_BOT: Final = re.compile(r"(?:project|group)_[0-9]+_bot.*")
"""How GitLab names the account of a project's or group's token."""


def headers(token: str) -> dict[str, str]:
    """Return the headers that carry `token`."""
    return {"authorization": f"Bearer {token}"}


class GitLab(Forge):
    """A project at GitLab."""

    def __init__(self, api: Api, path: str) -> None:
        self._api = api
        self._project = f"/projects/{quote(path, safe='')}"
        self._merges = f"{self._project}/merge_requests"

    async def login(self) -> str:
        return text_of(await self._api.get("/user"), "username")

    async def may_push(self) -> bool:
        granted = (await self._api.get(self._project)).get("permissions") or {}
        return any((one or {}).get("access_level", 0) >= DEVELOPER for one in granted.values())

    async def find(self, branch: str, base: str) -> PullRequest | None:
        asked = {"source_branch": branch, "target_branch": base, "state": "all"}
        found = [_pull(one) for one in await self._api.pages(self._merges, **asked)]
        return max((one for one in found if one.branch == branch), key=number_of, default=None)

    async def open(self, draft: Draft) -> PullRequest:
        body = {
            "title": draft.title,
            "source_branch": draft.branch,
            "target_branch": draft.base,
            "description": draft.body,
        }
        return _pull(await self._api.send("POST", self._merges, body))

    async def describe(self, number: int, draft: Draft) -> None:
        body = {"title": draft.title, "description": draft.body}
        await self._api.send("PUT", f"{self._merges}/{number}", body)

    async def show(self, number: int) -> PullRequest:
        return _pull(await self._api.get(f"{self._merges}/{number}"))

    async def comments(self, number: int) -> Sequence[Comment]:
        asked = {"sort": "asc", "order_by": "created_at"}
        found = []
        for one in await self._api.pages(f"{self._merges}/{number}/notes", **asked):
            if one.get("system"):
                continue
            place = one.get("position") or {}
            path, line = place.get("new_path"), place.get("new_line")
            found.append(commented("n", one, _author(one), path=path, line=line))
        return found

    async def failed_checks(self, commit: str) -> Sequence[FailedCheck]:
        rows = await self._api.pages(f"{self._project}/repository/commits/{commit}/statuses")
        return failed(
            (one.get("name"), one.get("target_url"))
            for one in rows
            if one.get("status") == "failed" and not one.get("allow_failure")
        )

    async def writes(self, author: Author) -> bool:
        try:
            found = await self._api.get(f"{self._project}/members/all/{author.key}")
        except ForgeMissing:
            return False
        return int(found.get("access_level") or 0) >= DEVELOPER

    async def say(self, number: int, body: str) -> None:
        await self._api.send("POST", f"{self._merges}/{number}/notes", {"body": body})


def _author(one: dict[str, Any]) -> Author:
    user = one.get("author") or {}
    name = str(user.get("username") or "")
    return Author(name, str(user.get("id") or 0), _BOT.fullmatch(name) is not None)


def _pull(one: dict[str, Any]) -> PullRequest:
    states = {"merged": PullState.MERGED, "closed": PullState.CLOSED}
    merged_as = text_of(one, "merge_commit_sha") or text_of(one, "squash_commit_sha")
    state = states.get(text_of(one, "state"), PullState.OPEN)
    return PullRequest(
        number=int(one["iid"]),
        url=text_of(one, "web_url"),
        state=state,
        branch=text_of(one, "source_branch"),
        commit=text_of(one, "sha"),
        base=text_of(one, "target_branch"),
        stuck=state is PullState.OPEN and one.get("has_conflicts") is True,
        merged_as=(merged_as or text_of(one, "sha")) if state is PullState.MERGED else None,
    )
