"""GitLab's requests, as its REST documentation (v4) has them."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from agentcom.testing.forge.routes import Answer, Asked, Dialect, Route
from agentcom.testing.forge.state import Pull, Repository, Said

_STATES: Final[Mapping[str, str]] = {"open": "opened"}
_IDS: Final = 1_000


def dialect(path: str) -> Dialect:
    """Return what GitLab takes about the project `path`."""
    project = f"/projects/{quote(path, safe='')}"
    merges = f"{project}/merge_requests"
    one = f"{merges}/{{number}}"
    new = {"title!": str, "source_branch!": str, "target_branch!": str, "description": str}
    return Dialect(
        prefix="/api/v4",
        header="Bearer",
        page_name="per_page",
        routes=(
            Route(method="GET", path="/user", answer=_me),
            Route(method="GET", path=project, answer=_project),
            Route(
                method="GET",
                path=merges,
                answer=_list,
                query=("source_branch", "target_branch", "state"),
            ),
            Route(method="POST", path=merges, answer=_open, fields=new),
            Route(method="GET", path=one, answer=_show),
            Route(method="PUT", path=one, answer=_edit, fields={"title": str, "description": str}),
            Route(method="GET", path=f"{one}/notes", answer=_notes, query=("sort", "order_by")),
            Route(method="POST", path=f"{one}/notes", answer=_note, fields={"body!": str}),
            Route(
                method="GET",
                path=f"{project}/repository/commits/{{commit}}/statuses",
                answer=_statuses,
                query=("ref", "stage", "name", "all"),
            ),
            Route(method="GET", path=f"{project}/members/all/{{user}}", answer=_member),
        ),
    )


def _me(repository: Repository, asked: Asked) -> Answer:
    del asked
    return Answer(body={"id": _id_of(repository, repository.login), "username": repository.login})


def _project(repository: Repository, asked: Asked) -> Answer:
    del asked
    level = 30 if repository.writers.get(repository.login) else 20
    granted = {"project_access": {"access_level": level}, "group_access": None}
    return Answer(body={"default_branch": "main", "permissions": granted})


def _list(repository: Repository, asked: Asked) -> Answer:
    branch, wanted = asked.query.get("source_branch"), asked.query.get("state", "all")
    pulls = [one for one in repository.pulls if branch in (None, one.branch)]
    pulls = [one for one in pulls if wanted in ("all", _state(one))]
    return Answer(rows=[_merge(repository, one, asked) for one in reversed(pulls)])


def _open(repository: Repository, asked: Asked) -> Answer:
    sent = asked.body
    pull = repository.open(
        title=sent["title"],
        body=sent.get("description", ""),
        branch=sent["source_branch"],
        base=sent["target_branch"],
    )
    if pull is None:
        said = "Another open merge request already exists for this source branch: !1"
        return Answer(status=409, body={"message": [said]})
    return Answer(status=201, body=_merge(repository, pull, asked))


def _show(repository: Repository, asked: Asked) -> Answer:
    return Answer(body=_merge(repository, _named(repository, asked), asked))


def _edit(repository: Repository, asked: Asked) -> Answer:
    pull = _named(repository, asked)
    pull.title = asked.body.get("title", pull.title)
    pull.body = asked.body.get("description", pull.body)
    return Answer(body=_merge(repository, pull, asked))


def _notes(repository: Repository, asked: Asked) -> Answer:
    said = [one for one in _named(repository, asked).said if one.body]
    return Answer(rows=[_shown(repository, one) for one in said])


def _note(repository: Repository, asked: Asked) -> Answer:
    number = int(asked.names["number"])
    said = repository.comment(number, repository.login, asked.body["body"])
    return Answer(status=201, body=_shown(repository, said))


def _statuses(repository: Repository, asked: Asked) -> Answer:
    runs = repository.checks.get(asked.names["commit"], {})
    rows = [
        {
            "name": name,
            "status": "failed" if outcome == "failure" else outcome,
            "target_url": "https://ci/1",
            "allow_failure": False,
        }
        for name, outcome in runs.items()
    ]
    return Answer(rows=rows)


def _member(repository: Repository, asked: Asked) -> Answer:
    at = int(asked.names["user"]) - _IDS
    names = list(repository.writers)
    if not 0 <= at < len(names):
        return Answer(status=404, body={"message": "404 Not found"})
    return Answer(body={"access_level": 30 if repository.writers[names[at]] else 20})


def _id_of(repository: Repository, login: str) -> int:
    names = list(repository.writers)
    return _IDS + (names.index(login) if login in names else len(names))


def _named(repository: Repository, asked: Asked) -> Pull:
    return repository.pulls[int(asked.names["number"]) - 1]


def _state(pull: Pull) -> str:
    return _STATES.get(pull.state, pull.state)


def _merge(repository: Repository, pull: Pull, asked: Asked) -> dict[str, Any]:
    return {
        "id": 7_000 + pull.number,
        "iid": pull.number,
        "web_url": f"{asked.url}/acme/api/-/merge_requests/{pull.number}",
        "title": pull.title,
        "description": pull.body,
        "state": _state(pull),
        "source_branch": pull.branch,
        "target_branch": pull.base,
        "has_conflicts": repository.conflicts(pull),
        "sha": repository.commit_of(pull),
        "merge_commit_sha": pull.merged_as,
        "squash_commit_sha": None,
        "author": {"id": _id_of(repository, pull.author), "username": pull.author},
    }


def _shown(repository: Repository, said: Said) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": said.id,
        "body": said.body,
        "system": False,
        "author": {"id": _id_of(repository, said.author), "username": said.author},
        "created_at": said.at,
    }
    if said.path is not None:
        shown["position"] = {"new_path": said.path, "new_line": said.line}
    return shown
