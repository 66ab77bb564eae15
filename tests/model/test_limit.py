"""Scopes: a repository has one name, whichever of its addresses was written."""

import pytest

from agentcom.model.limit import canonical_scope, repository_name


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/team/app.git",
        "https://ada:secret@GitHub.com:443/team/app/",
        "HTTPS://github.com/team/app",
        "http://github.com:80/team/app",
        "git://github.com/team/app",
        "ssh://git@github.com/team/app.git",
        "ssh://git@github.com:2222/team/app.git",
        "git@github.com:team/app.git",
        "git@github.com:/team/app.git/",
        "github.com:team/app",
        "github.com/team/app",
    ],
)
def test_every_address_of_a_repository_is_one_name(address: str) -> None:
    assert repository_name(address) == "github.com/team/app"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("/srv/git/app.git", "/srv/git/app"),
        ("file:///srv/git/app.git", "/srv/git/app"),
        ("/srv/a:b.git", "/srv/a:b"),
        ("../app", "../app"),
        ("http://127.0.0.1:8080/app", "127.0.0.1:8080/app"),
        ("git@[::1]:app", "[::1]/app"),
        ("https://github.com/Team/App", "github.com/Team/App"),
        ("http://", "http://"),
    ],
)
def test_what_is_another_repository_has_another_name(address: str, name: str) -> None:
    assert repository_name(address) == name


@pytest.mark.parametrize(
    ("written", "scope"),
    [
        ("repo:git@github.com:team/app.git", "repo:github.com/team/app"),
        ("branch:https://github.com/team/app.git#main", "branch:github.com/team/app#main"),
        ("repo:*", "repo:*"),
        ("branch:*", "branch:*"),
        ("key:https://github.com/team/app.git", "key:https://github.com/team/app.git"),
    ],
)
def test_a_scope_is_written_as_tasks_have_it(written: str, scope: str) -> None:
    assert canonical_scope(written) == scope
