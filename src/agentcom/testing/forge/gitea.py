"""The requests of Gitea and Forgejo, as their API's own description (v1) has them."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from agentcom.testing.forge import github
from agentcom.testing.forge.routes import Answer, Asked, Dialect, Route
from agentcom.testing.forge.state import Pull, Repository, Said

_STATES: Final[Mapping[str, str]] = {"CHANGES_REQUESTED": "REQUEST_CHANGES", "COMMENTED": "COMMENT"}


def dialect(path: str) -> Dialect:
    """Return what Gitea takes about the repository `path`."""
    repo = f"/repos/{path}"
    pull = f"{repo}/pulls/{{number}}"
    new = {"title!": str, "head!": str, "base!": str, "body": str}
    said = f"{repo}/issues/{{number}}/comments"
    return Dialect(
        prefix="/api/v1",
        header="token",
        page_name="limit",
        gives_etags=False,
        routes=(
            Route(method="GET", path="/user", answer=_me),
            Route(method="GET", path=repo, answer=_repo),
            Route(method="GET", path=f"{repo}/pulls", answer=_list, query=("state", "sort")),
            Route(method="POST", path=f"{repo}/pulls", answer=_open, fields=new),
            Route(method="GET", path=pull, answer=_show),
            Route(method="PATCH", path=pull, answer=_edit, fields={"title": str, "body": str}),
            Route(method="GET", path=said, answer=_comments, query=("since", "before")),
            Route(method="POST", path=said, answer=_comment, fields={"body!": str}),
            Route(method="GET", path=f"{pull}/reviews", answer=_reviews),
            Route(method="GET", path=f"{pull}/reviews/{{id}}/comments", answer=_of_review),
            Route(method="GET", path=f"{repo}/commits/{{commit}}/status", answer=_status),
            Route(
                method="GET",
                path=f"{repo}/collaborators/{{login}}/permission",
                answer=github.permission,
            ),
            Route(method="GET", path=f"{repo}/pulls/{{base}}/{{head}}", answer=_of_pair),
        ),
    )


def _me(repository: Repository, asked: Asked) -> Answer:
    del asked
    return Answer(body={"id": 1, "login": repository.login})


def _repo(repository: Repository, asked: Asked) -> Answer:
    del asked
    push = repository.writers.get(repository.login, False)
    return Answer(body={"default_branch": "main", "permissions": {"pull": True, "push": push}})


def _list(repository: Repository, asked: Asked) -> Answer:
    wanted = asked.query.get("state", "open")
    pulls = [one for one in repository.pulls if wanted == "all" or one.state == "open"]
    return Answer(rows=[_pull(repository, one, asked) for one in reversed(pulls)])


def _of_pair(repository: Repository, asked: Asked) -> Answer:
    pair = (unquote(asked.names["base"]), unquote(asked.names["head"]))
    oldest = next((one for one in repository.pulls if (one.base, one.branch) == pair), None)
    if oldest is None:
        return Answer(status=404, body={"message": "not found"})
    return Answer(body=_pull(repository, oldest, asked))


def _open(repository: Repository, asked: Asked) -> Answer:
    sent = asked.body
    pull = repository.open(
        title=sent["title"], body=sent.get("body", ""), branch=sent["head"], base=sent["base"]
    )
    if pull is None:
        return Answer(status=409, body={"message": "pull request already exists for these targets"})
    return Answer(status=201, body=_pull(repository, pull, asked))


def _show(repository: Repository, asked: Asked) -> Answer:
    return Answer(body=_pull(repository, _named(repository, asked), asked))


def _edit(repository: Repository, asked: Asked) -> Answer:
    pull = _named(repository, asked)
    pull.title = asked.body.get("title", pull.title)
    pull.body = asked.body.get("body", pull.body)
    return Answer(status=201, body=_pull(repository, pull, asked))


def _comments(repository: Repository, asked: Asked) -> Answer:
    said = [one for one in _named(repository, asked).said if one.sort == "issue"]
    return Answer(rows=[_shown(one) for one in said])


def _comment(repository: Repository, asked: Asked) -> Answer:
    number = int(asked.names["number"])
    said = repository.comment(number, repository.login, asked.body["body"])
    return Answer(status=201, body=_shown(said))


def _reviews(repository: Repository, asked: Asked) -> Answer:
    said = [one for one in _named(repository, asked).said if one.sort == "review"]
    rows = []
    for one in said:
        state = _STATES.get(one.state, one.state)
        rows.append({**_shown(one), "state": state, "submitted_at": one.at})
    return Answer(rows=rows)


def _of_review(repository: Repository, asked: Asked) -> Answer:
    said = _named(repository, asked).said
    mine = [one for one in said if one.sort == "line" and one.review == int(asked.names["id"])]
    return Answer(rows=[{**_shown(one), "path": one.path, "position": one.line} for one in mine])


def _status(repository: Repository, asked: Asked) -> Answer:
    runs = repository.checks.get(asked.names["commit"], {})
    rows = [
        {"context": name, "status": outcome, "target_url": "https://ci/1"}
        for name, outcome in runs.items()
    ]
    return Answer(body={"state": "pending", "statuses": rows})


def _named(repository: Repository, asked: Asked) -> Pull:
    return repository.pulls[int(asked.names["number"]) - 1]


def _pull(repository: Repository, pull: Pull, asked: Asked) -> dict[str, Any]:
    merged = pull.state == "merged"
    return {
        "number": pull.number,
        "html_url": f"{asked.url}/acme/api/pulls/{pull.number}",
        "title": pull.title,
        "body": pull.body,
        "state": "open" if pull.state == "open" else "closed",
        "merged": merged,
        "merge_commit_sha": pull.merged_as,
        "head": {"ref": pull.branch, "sha": repository.commit_of(pull)},
        "base": {"ref": pull.base},
        "mergeable": not repository.conflicts(pull),
        "user": {"login": pull.author},
    }


def _shown(said: Said) -> dict[str, Any]:
    return {
        "id": said.id,
        "body": said.body,
        "user": {"login": said.author},
        "created_at": said.at,
    }
