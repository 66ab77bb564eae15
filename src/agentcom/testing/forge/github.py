"""GitHub's requests, as its REST documentation (2022-11-28) has them."""

from collections.abc import Callable
from typing import Any

from agentcom.testing.forge.routes import Answer, Asked, Dialect, Route
from agentcom.testing.forge.state import Pull, Repository, Said


def dialect(path: str) -> Dialect:
    """Return what GitHub takes about the repository `path`."""
    repo = f"/repos/{path}"
    pull = f"{repo}/pulls/{{number}}"
    text = {"body!": str}
    new = {"title!": str, "head!": str, "base!": str, "body": str, "draft": bool}
    filters = ("head", "base", "state", "sort", "direction")
    return Dialect(
        prefix="/api/v3",
        header="Bearer",
        page_name="per_page",
        routes=(
            Route(method="GET", path="/user", answer=_me),
            Route(method="GET", path=repo, answer=_repo),
            Route(method="GET", path=f"{repo}/pulls", answer=_list, query=filters),
            Route(method="POST", path=f"{repo}/pulls", answer=_open, fields=new),
            Route(method="GET", path=pull, answer=_show),
            Route(method="PATCH", path=pull, answer=_edit, fields={"title": str, "body": str}),
            Route(
                method="GET",
                path=f"{repo}/issues/{{number}}/comments",
                answer=_said("issue"),
                query=("since",),
            ),
            Route(
                method="POST",
                path=f"{repo}/issues/{{number}}/comments",
                answer=_comment,
                fields=text,
            ),
            Route(method="GET", path=f"{pull}/comments", answer=_said("line"), query=("since",)),
            Route(method="GET", path=f"{pull}/reviews", answer=_said("review")),
            Route(method="GET", path=f"{repo}/commits/{{commit}}/status", answer=_status),
            Route(method="GET", path=f"{repo}/commits/{{commit}}/check-runs", answer=_runs),
            Route(
                method="GET", path=f"{repo}/collaborators/{{login}}/permission", answer=permission
            ),
        ),
    )


def _me(repository: Repository, asked: Asked) -> Answer:
    del asked
    return Answer(body={"login": repository.login, "type": "User"})


def _repo(repository: Repository, asked: Asked) -> Answer:
    del asked
    push = repository.writers.get(repository.login, False)
    return Answer(body={"default_branch": "main", "permissions": {"pull": True, "push": push}})


def _list(repository: Repository, asked: Asked) -> Answer:
    branch, state = asked.query.get("head", ":").partition(":")[2], asked.query.get("state", "open")
    rows = [
        _pull(repository, one, asked)
        for one in reversed(repository.pulls)
        if branch in ("", one.branch) and state in ("all", "open" if one.state == "open" else "x")
    ]
    for row in rows:  # a list has no `merged`, only when it was
        del row["merged"]
        del row["mergeable"]
    return Answer(rows=rows)


def _open(repository: Repository, asked: Asked) -> Answer:
    sent = asked.body
    pull = repository.open(
        title=sent["title"], body=sent.get("body", ""), branch=sent["head"], base=sent["base"]
    )
    if pull is None:
        return Answer(status=422, body={"message": "Validation Failed", "errors": [{}]})
    return Answer(status=201, body=_pull(repository, pull, asked))


def _show(repository: Repository, asked: Asked) -> Answer:
    return Answer(body=_pull(repository, _named(repository, asked), asked))


def _edit(repository: Repository, asked: Asked) -> Answer:
    pull = _named(repository, asked)
    pull.title = asked.body.get("title", pull.title)
    pull.body = asked.body.get("body", pull.body)
    return Answer(body=_pull(repository, pull, asked))


def _said(sort: str) -> Callable[[Repository, Asked], Answer]:
    def answer(repository: Repository, asked: Asked) -> Answer:
        said = [one for one in _named(repository, asked).said if one.sort == sort]
        return Answer(rows=[_comment_shown(repository, one) for one in said])

    return answer


def _comment(repository: Repository, asked: Asked) -> Answer:
    number = int(asked.names["number"])
    said = repository.comment(number, repository.login, asked.body["body"])
    return Answer(status=201, body=_comment_shown(repository, said))


def _status(repository: Repository, asked: Asked) -> Answer:
    del repository, asked
    return Answer(body={"state": "pending", "statuses": []})


def _runs(repository: Repository, asked: Asked) -> Answer:
    runs = repository.checks.get(asked.names["commit"], {})
    rows = [
        {"name": name, "status": "completed", "conclusion": outcome, "html_url": f"https://ci/{at}"}
        for at, (name, outcome) in enumerate(runs.items())
    ]
    return Answer(rows=rows, within="check_runs")


def permission(repository: Repository, asked: Asked) -> Answer:
    """Say what an account may do; Gitea took this answer over."""
    login = asked.names["login"]
    return Answer(body={"permission": "write" if repository.writers.get(login) else "read"})


def _named(repository: Repository, asked: Asked) -> Pull:
    return repository.pulls[int(asked.names["number"]) - 1]


def _pull(repository: Repository, pull: Pull, asked: Asked) -> dict[str, Any]:
    merged = pull.state == "merged"
    return {
        "number": pull.number,
        "html_url": f"{asked.url}/acme/api/pull/{pull.number}",
        "title": pull.title,
        "body": pull.body,
        "state": "open" if pull.state == "open" else "closed",
        "merged": merged,
        "merged_at": "2026-01-02T00:00:00Z" if merged else None,
        "merge_commit_sha": pull.merged_as,
        "head": {"ref": pull.branch, "sha": repository.commit_of(pull)},
        "base": {"ref": pull.base},
        "mergeable": not repository.conflicts(pull),
        "user": {"login": pull.author, "type": "User"},
    }


def _comment_shown(repository: Repository, said: Said) -> dict[str, Any]:
    kind = "Bot" if said.author in repository.bots else "User"
    shown: dict[str, Any] = {
        "id": said.id,
        "body": said.body,
        "user": {"login": said.author, "type": kind},
    }
    if said.sort == "review":
        return {**shown, "state": said.state, "submitted_at": said.at}
    place = {"path": said.path, "line": said.line} if said.sort == "line" else {}
    return {**shown, "created_at": said.at, **place}
