"""GitHub's REST API, of github.com and of Enterprise servers (version 2022-11-28)."""

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

_FAILED: Final = frozenset(
    {"failure", "timed_out", "cancelled", "startup_failure", "action_required", "error"}
)
_MAY_WRITE: Final = frozenset({"owner", "admin", "maintain", "write"})
"""What each calls who may push; Gitea has owners, and no maintainers."""


def headers(token: str) -> dict[str, str]:
    """Return the headers that carry `token`."""
    return {
        "authorization": f"Bearer {token}",
        "accept": "application/vnd.github+json",
        "x-github-api-version": "2022-11-28",
    }


class GitHub(Forge):
    """A repository at GitHub, or at a forge that took its API for a model (`gitea.py`)."""

    def __init__(self, api: Api, path: str) -> None:
        self._api = api
        self._path = path
        self._repo = f"/repos/{path}"

    async def login(self) -> str:
        return text_of(await self._api.get("/user"), "login")

    async def may_push(self) -> bool:
        found = await self._api.get(self._repo)
        return bool((found.get("permissions") or {}).get("push"))

    async def find(self, branch: str, base: str) -> PullRequest | None:
        owner = self._path.partition("/")[0]
        asked = {"head": f"{owner}:{branch}", "base": base, "state": "all"}
        found = [pull_of(one) for one in await self._api.pages(f"{self._repo}/pulls", **asked)]
        # A forge that ignores the filter must not give us another's.
        return max((one for one in found if one.branch == branch), key=number_of, default=None)

    async def open(self, draft: Draft) -> PullRequest:
        body = {"title": draft.title, "head": draft.branch, "base": draft.base, "body": draft.body}
        return pull_of(await self._api.send("POST", f"{self._repo}/pulls", body))

    async def describe(self, number: int, draft: Draft) -> None:
        body = {"title": draft.title, "body": draft.body}
        await self._api.send("PATCH", f"{self._repo}/pulls/{number}", body)

    async def show(self, number: int) -> PullRequest:
        return pull_of(await self._api.get(f"{self._repo}/pulls/{number}"))

    async def comments(self, number: int) -> Sequence[Comment]:
        pull = f"{self._repo}/pulls/{number}"
        said = await self._api.pages(f"{self._repo}/issues/{number}/comments")
        found = [commented("i", one, _author(one)) for one in said]
        found += [
            commented("r", one, _author(one), path=one.get("path"), line=one.get("line"))
            for one in await self._api.pages(f"{pull}/comments")
        ]
        for one in await self._api.pages(f"{pull}/reviews"):
            state = one.get("state")
            if state == "PENDING":
                continue
            found.append(
                commented(
                    "v",
                    {**one, "created_at": one.get("submitted_at")},
                    _author(one),
                    wants=state == "CHANGES_REQUESTED",
                    approves=state in ("APPROVED", "DISMISSED"),
                )
            )
        return sorted(found, key=lambda one: one.at)

    async def failed_checks(self, commit: str) -> Sequence[FailedCheck]:
        where = f"{self._repo}/commits/{commit}"
        status = await self._api.get(f"{where}/status")
        runs = await self._api.pages(f"{where}/check-runs", of="check_runs")
        rows = [(one, "context", one.get("state"), "target_url") for one in status["statuses"]]
        rows += [(one, "name", one.get("conclusion"), "html_url") for one in runs]
        return failed(
            (one.get(name), one.get(url)) for one, name, state, url in rows if state in _FAILED
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
    return Author(str(user.get("login") or ""), bot=user.get("type") == "Bot")


def pull_of(one: dict[str, Any]) -> PullRequest:
    """Return a pull request as the API shows it."""
    merged = bool(one.get("merged") or one.get("merged_at"))
    open_ = one.get("state") == "open"
    head = one.get("head") or {}
    return PullRequest(
        number=int(one["number"]),
        url=text_of(one, "html_url"),
        state=PullState.MERGED if merged else PullState.OPEN if open_ else PullState.CLOSED,
        branch=text_of(head, "ref"),
        commit=text_of(head, "sha"),
        base=text_of(one.get("base") or {}, "ref"),
        stuck=open_ and one.get("mergeable") is False,
        merged_as=text_of(one, "merge_commit_sha") or None if merged else None,
    )
