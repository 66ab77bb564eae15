import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agentcom.cli import repository, specs
from agentcom.cli.errors import CommandFailed

OPTIONS: dict[str, Any] = {
    **dict.fromkeys(("title", "priority", "land", "not_before", "repo", "base", "kind")),
    **dict.fromkeys(("group", "reviews", "review_by", "expires_in")),
    **dict.fromkeys(("needs", "prefers", "uses", "limit_key", "scope", "verify"), ()),
    **dict.fromkeys(("on_quota", "budget", "corrections", "unique_key")),
    "scope_shared": False,
    "approval": False,
    "allow_repeat": False,
    "depends_on": (),
    "no_repo": True,
    "command": False,
}
TOML = """
[[tasks]]
ref = "a"
prompt = "First line\\nmore"
verify = "pytest -q"

[[tasks]]
title = "Second"
command = ["make", "docs"]
depends_on = ["a"]
"""


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    git(tmp_path, "clone", "-q", str(tmp_path / "origin.git"), "work")
    git(tmp_path / "work", "checkout", "-q", "-b", "main")
    git(tmp_path / "work", "commit", "-q", "--allow-empty", "-m", "Start")
    git(tmp_path / "work", "push", "-q", "origin", "main")
    git(tmp_path / "work", "fetch", "-q")
    return tmp_path / "work"


def test_where_a_task_goes_can_be_said() -> None:
    given = {
        "prefers": ("gpu*2",),
        "uses": ("cpu=2", "db=1"),
        "limit_key": ("deploy",),
        "scope": ("src/**",),
        "scope_shared": True,
        "kind": "review",
    }

    spec = specs.from_options(["Go"], OPTIONS | given, resolve=str)

    assert spec == {
        "title": "Go",
        "prompt": "Go",
        "prefers": ["gpu*2"],
        "uses": {"cpu": 2, "db": 1},
        "keys": ["deploy"],
        "scope": ["src/**"],
        "scope_shared": True,
        "kind": "review",
    }
    with pytest.raises(CommandFailed, match="no amount"):
        specs.from_options(["Go"], OPTIONS | {"uses": ("cpu",)}, resolve=str)


def test_the_prompt_becomes_a_task_with_its_first_line_as_title() -> None:
    spec = specs.from_options(["Fix it\nplease"], OPTIONS, resolve=str)

    assert spec == {"title": "Fix it", "prompt": "Fix it\nplease"}


def test_when_it_must_start_and_that_it_may_repeat_are_said_beside_the_prompt() -> None:
    given = {**OPTIONS, "expires_in": "2027-01-31T08:00:00+00:00", "allow_repeat": True}

    spec = specs.from_options(["p"], given, resolve=str)

    assert (spec["start_by"], spec["repeats"]) == (1_801_382_400_000, True)


def test_a_file_says_when_a_task_must_start_and_that_it_may_repeat(tmp_path: Path) -> None:
    file = tmp_path / "tasks.toml"
    file.write_text(
        '[[tasks]]\nprompt = "p"\nstart_by = "2027-01-31T08:00:00+00:00"\nrepeats = true\n'
    )

    (spec,) = specs.from_file(file, OPTIONS)

    assert (spec["start_by"], spec["repeats"]) == (1_801_382_400_000, True)


def test_a_time_that_is_not_understood_names_its_option() -> None:
    with pytest.raises(CommandFailed) as told:
        specs.from_options(["p"], {**OPTIONS, "expires_in": "soon"}, resolve=str)

    assert told.value.hint == "--expires-in 2h, or 2027-01-31T08:00"


def test_a_command_is_kept_as_words() -> None:
    spec = specs.from_options(["echo", "a b"], {**OPTIONS, "command": True}, resolve=str)

    assert spec == {"title": "echo a b", "command": ["echo", "a b"]}


def test_a_dependency_may_ask_for_any_end() -> None:
    given = {**OPTIONS, "depends_on": ("abc:any", "def")}

    spec = specs.from_options(["x"], given, resolve=str.upper)

    assert spec["depends_on"] == [{"task": "ABC", "condition": "any_end"}, {"task": "DEF"}]


def test_what_becomes_of_a_dependant_stands_behind_a_colon() -> None:
    given = {**OPTIONS, "depends_on": ("abc:skip,children", "def:wait")}

    spec = specs.from_options(["x"], given, resolve=str.upper)

    assert spec["depends_on"] == [
        {"task": "ABC", "on_failure": "skip", "children": True},
        {"task": "DEF", "on_failure": "wait"},
    ]
    with pytest.raises(CommandFailed, match="is no dependency"):
        specs.from_options(["x"], {**OPTIONS, "depends_on": ("abc:sometimes",)}, resolve=str)


def test_a_group_a_review_and_an_approval_are_said_in_options() -> None:
    review = {**OPTIONS, "group": "g", "reviews": "abc", "review_by": "other_machine"}
    gate = {**OPTIONS, "approval": True, "no_repo": False, "repo": "/nowhere"}

    assert specs.from_options(["x"], review, resolve=str.upper) == {
        "title": "x",
        "prompt": "x",
        "group": "g",
        "reviews": "ABC",
        "review_by": "other_machine",
    }
    assert specs.from_options(["Go?"], gate, resolve=str) == {
        "title": "Go?",
        "prompt": "Go?",
        "approval": "person",
    }


def test_in_a_file_a_dependency_is_a_ref_with_or_without_words(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    depends = ["a", "a:any", "odd:ref", "a:wait,children"]
    path.write_text(json.dumps([{"title": "t", "prompt": "p", "repo": "", "depends_on": depends}]))

    (spec,) = specs.from_file(path, OPTIONS)

    assert spec["depends_on"] == [
        {"task": "a"},
        {"task": "a", "condition": "any_end"},
        {"task": "odd:ref"},
        {"task": "a", "on_failure": "wait", "children": True},
    ]


def test_without_words_there_is_nothing_to_submit() -> None:
    with pytest.raises(CommandFailed, match="no prompt"):
        specs.from_options([], OPTIONS, resolve=str)


def test_a_file_gives_a_graph(tmp_path: Path) -> None:
    path = tmp_path / "tasks.toml"
    path.write_text(TOML)

    first, second = specs.from_file(path, OPTIONS)

    assert first["title"] == "First line"
    assert first["verify"] == ["pytest -q"]
    assert second["depends_on"] == [{"task": "a"}]


@pytest.mark.parametrize("text", ["[1]", "{}", "no json", '{"tasks": []}'])
def test_a_file_without_tasks_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tasks.json"
    path.write_text(text)

    with pytest.raises(CommandFailed):
        specs.from_file(path, OPTIONS)


def test_a_field_that_no_task_has_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "tasks.toml"
    path.write_text('[[tasks]]\ntitel = "A"\nprompt = "x"\n')

    with pytest.raises(CommandFailed, match=r"tasks\[0\] has no field titel") as refused:
        specs.from_file(path, OPTIONS)
    assert refused.value.hint == "did you mean title?"


@pytest.mark.parametrize(
    ("words", "given", "named"),
    [(("a prompt",), {}, "a prompt"), ((), {"depends_on": ("x",)}, "--depends-on")],
)
def test_what_a_file_would_make_us_ignore_is_refused(
    words: tuple[str, ...], given: dict[str, Any], named: str
) -> None:
    with pytest.raises(CommandFailed, match=f"{named} does not go together with --file"):
        specs.check_alone(words, OPTIONS | given)


def test_a_time_is_a_date_or_a_span() -> None:
    assert specs.when("2027-01-31T08:00+00:00") == 1_801_382_400_000
    assert specs.when("2h") - specs.when("1h") >= 3_599_000


def test_the_folder_tells_repository_and_branch(clone: Path) -> None:
    found = repository.infer(clone)

    assert found is not None
    assert (found.repo, found.base) == (str(clone.parent / "origin.git"), "main")
    assert found.notes == ()


def test_what_agents_will_not_see_is_said(clone: Path) -> None:
    git(clone, "commit", "-q", "--allow-empty", "-m", "Not pushed")
    (clone / "draft.txt").write_text("x")

    found = repository.infer(clone)

    assert found is not None
    assert found.notes == (
        "1 changed files are not committed: agents do not see them",
        "1 commits are not pushed: agents start from origin's main",
    )


def test_a_branch_that_only_lives_here_starts_from_the_default(clone: Path) -> None:
    git(clone, "checkout", "-q", "-b", "idea")

    found = repository.infer(clone)

    assert found is not None
    assert found.base == "main"


def test_a_clone_that_knows_no_default_starts_from_the_nearest_branch(clone: Path) -> None:
    git(clone, "update-ref", "refs/remotes/origin/trunk", "HEAD")
    git(clone, "update-ref", "refs/remotes/origin/agent/a/x", "HEAD")
    git(clone, "update-ref", "-d", "refs/remotes/origin/main")
    git(clone, "checkout", "-q", "--detach")

    found = repository.infer(clone)

    assert found is not None
    assert found.base == "trunk"


def test_a_plain_folder_has_no_repository(tmp_path: Path) -> None:
    assert repository.infer(tmp_path) is None


def test_a_repository_without_a_remote_is_told_what_it_cannot_do(clone: Path) -> None:
    git(clone, "remote", "remove", "origin")

    found = repository.infer(clone)

    assert found is not None
    assert found.repo == str(clone)
    assert any("no remote origin" in note for note in found.notes)


def test_a_time_that_is_over_is_a_date_or_a_span() -> None:
    day_ms = 86_400_000

    assert 6 * day_ms < specs.when("1s") - specs.since("7d") < 8 * day_ms
    assert specs.since("2026-01-31T00:00+00:00") == 1_769_817_600_000
    with pytest.raises(CommandFailed, match="'soon' is no time"):
        specs.since("soon")


def test_a_budget_names_its_limits() -> None:
    assert specs.budget("cost=5, tokens=2M,turns=10,wall=8h") == {
        "cost_micros": 5_000_000,
        "tokens": 2_000_000,
        "turns": 10,
        "wall_ms": 28_800_000,
    }
    assert specs.budget("cost=$0.25,tokens=1.5k") == {"cost_micros": 250_000, "tokens": 1_500}


@pytest.mark.parametrize(
    "text", ["", "cost", "cost=-1", "cost=0", "cost=1,cost=2", "money=1", "wall=5", "tokens=1G"]
)
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CommandFailed, match="limit"):
        specs.budget(text)


def test_a_scope_may_be_named_as_the_base_names_it(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clone / ".agentcom.toml").write_text('scopes = { shop = ["src/shop/", "tests/shop/"] }\n')
    git(clone, "add", ".agentcom.toml")
    git(clone, "commit", "-qm", "name a scope")
    git(clone, "push", "-q", "origin", "main")
    (clone / ".agentcom.toml").write_text("scopes = {}\n")  # agents do not see it
    monkeypatch.chdir(clone)

    spec = specs.from_options(("x",), OPTIONS | {"scope": ("@shop", "docs/**")}, resolve=str)

    assert spec["scope"] == ["src/shop/**", "tests/shop/**", "docs/**"]
    with pytest.raises(CommandFailed, match="@cart is no scope"):
        specs.from_options(("x",), OPTIONS | {"scope": ("@cart",)}, resolve=str)
