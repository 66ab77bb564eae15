"""The API of Gitea and Forgejo (v1), Codeberg's among them."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from agentcom.sidecar.forge.base import Author, Comment, FailedCheck, ForgeMissing, PullRequest
from agentcom.sidecar.forge.github import GitHub, pull_of
from agentcom.sidecar.forge.reading import commented, failed, number_of

_FAILED: Final = frozenset({"failure", "error"})
_WANTS: Final = "REQUEST_CHANGES"
_SAID: Final = frozenset({"COMMENT", _WANTS, "APPROVED"})


def headers(token: str) -> dict[str, str]:
    """Return the headers that carry `token`."""
    return {"authorization": f"token {token}", "accept": "application/json"}


class Gitea(GitHub):
    """A repository at Gitea or Forgejo, whose API is GitHub's but for what stands here."""

    async def find(self, branch: str, base: str) -> PullRequest | None:
        # The list has no filter, and what is asked for a pair of branches answers with the oldest,
        # closed or not: it is for those that nobody touched since the newest of the list.
        asked = {"state": "all", "sort": "recentupdate"}
        found = [pull_of(one) for one in await self._api.pages(f"{self._repo}/pulls", **asked)]
        newest = max((one for one in found if one.branch == branch), key=number_of, default=None)
        if newest is not None:
            return newest
        try:
            pair = f"{quote(base, safe='')}/{quote(branch, safe='')}"
            return pull_of(await self._api.get(f"{self._repo}/pulls/{pair}"))
        except ForgeMissing:
            return None

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


def _author(one: dict[str, Any]) -> Author:
    user = one.get("user") or {}
    return Author(str(user.get("login") or ""))
