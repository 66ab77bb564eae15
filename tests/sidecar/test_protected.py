"""Tests of which changes need a person before they land: agentcom.sidecar.protected."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agentcom.sidecar import protected, workspace
from tests.sidecar.git_origin import ADA, FIRST, Machine, Origin, git, reasons_of


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "forge")


@pytest.fixture
def ada(tmp_path: Path, origin: Origin) -> Machine:
    return Machine(tmp_path / "ada", origin, ADA)


def emptied(test: Path) -> None:
    test.write_text("")


def made_a_link(test: Path) -> None:
    test.unlink()
    test.symlink_to("../README")


def renamed(test: Path) -> None:
    test.rename(test.with_name("a.py"))


def given_another_suffix(test: Path) -> None:
    test.rename(test.with_name("test_a.py.off"))


@pytest.mark.parametrize(
    ("disable", "reason"),
    [
        (emptied, "empties the test tests/test_a.py"),
        (made_a_link, "replaces the test tests/test_a.py by something that is no file"),
        (renamed, "moves the test tests/test_a.py to tests/a.py"),
        (given_another_suffix, "moves the test tests/test_a.py to tests/test_a.py.off"),
    ],
)
async def test_a_test_that_is_disabled_needs_a_person(
    ada: Machine, origin: Origin, disable: Callable[[Path], None], reason: str
) -> None:
    base = origin.push({"tests/test_a.py": "def test_a():\n    assert True\n" * 9})
    worktree = await ada.prepare(FIRST)
    disable(worktree.path / "tests/test_a.py")
    saved = await workspace.finish(worktree, "x")

    assert await reasons_of(worktree.cache, base, saved.commit) == [reason]


async def test_a_pointer_to_another_repository_needs_a_person(ada: Machine, origin: Origin) -> None:
    base = origin.tip()
    worktree = await ada.prepare(FIRST)
    git(worktree.path, "worktree", "add", "-q", "vendor/lib")
    saved = await workspace.finish(worktree, "x")

    assert await reasons_of(worktree.cache, base, saved.commit) == [
        "holds the repository vendor/lib, whose files are not in the commit"
    ]


async def test_a_test_that_moves_as_a_test_needs_nobody(ada: Machine, origin: Origin) -> None:
    base = origin.push({"tests/fixtures/a.json": "1\n" * 9})
    worktree = await ada.prepare(FIRST)
    (worktree.path / "tests/unit").mkdir()
    (worktree.path / "tests/test_a.py").rename(worktree.path / "tests/unit/test_a.py")
    (worktree.path / "tests/fixtures/a.json").rename(worktree.path / "tests/b.json")
    saved = await workspace.finish(worktree, "x")

    assert await reasons_of(worktree.cache, base, saved.commit) == []


async def test_changes_that_need_a_person_are_named(ada: Machine, origin: Origin) -> None:
    base = origin.push(
        {
            ".agentcom.toml": 'land = "branch"\n',
            "src/a.spec.ts": "1\n" * 9,
            "tests/test_b.py": "2\n" * 9,
        }
    )
    worktree = await ada.prepare(FIRST)
    (worktree.path / ".agentcom.toml").write_text("land = 'merge'\n")
    (worktree.path / "src/a.spec.ts").unlink()
    (worktree.path / "tests/test_b.py").rename(worktree.path / "b.txt")
    (worktree.path / "tests/test_a.py").rename(worktree.path / "tests/test_c.py")
    saved = await workspace.finish(worktree, "x")
    origin.push({"meanwhile": "x"})

    reasons = await reasons_of(worktree.cache, base, saved.commit)

    assert reasons == [
        "changes .agentcom.toml",
        "moves the test tests/test_b.py to b.txt",
        "deletes the test src/a.spec.ts",
    ]


async def test_ordinary_changes_need_nobody(ada: Machine, origin: Origin) -> None:
    base = origin.tip()
    commit = await ada.work(FIRST, {"README": "x", "tests/test_a.py": "def test_a(): 1\n"})

    assert await reasons_of(await ada.cache(), base, commit) == []


@pytest.mark.parametrize(
    "path",
    [
        "tests/x.txt",
        "test_a.py",
        "a/b_test.go",
        "a.spec.ts",
        "x/__tests__/a.js",
        "src/FooTest.java",
    ],
)
def test_tests_are_known_by_their_names(path: str) -> None:
    assert protected.is_test(path)


def test_other_files_are_no_tests() -> None:
    assert not any(map(protected.is_test, ["src/latest.py", "contest.py", "attest/a.py", "README"]))


SKIPPED = """import pytest


def test_a():
    assert True


@pytest.mark.skip
def test_b():
    assert True
"""
WHOLE = SKIPPED.replace("@pytest.mark.skip\n", "")


@pytest.mark.parametrize(
    ("path", "before", "after", "reason"),
    [
        ("tests/test_x.py", WHOLE, SKIPPED, "skips tests in tests/test_x.py"),
        (
            "tests/test_x.py",
            WHOLE,
            WHOLE.partition("def test_b")[0],
            "takes 1 test out of tests/test_x.py",
        ),
        ("a.test.ts", 'it("a", f);\n', 'it.skip("a", f);\n', "skips tests in a.test.ts"),
        (
            "a_test.go",
            "func TestA(t *testing.T) {\n}\n",
            "// none\n",
            "takes 1 test out of a_test.go",
        ),
        (
            "src/tests/x.rs",
            "#[test]\nfn a() {}\n",
            "#[test]\n#[ignore]\nfn a() {}\n",
            "skips tests in",
        ),
    ],
)
async def test_tests_that_go_or_are_skipped_need_a_person(
    ada: Machine, origin: Origin, path: str, before: str, after: str, reason: str
) -> None:
    base = origin.push({path: before})
    worktree = await ada.prepare(FIRST)
    (worktree.path / path).write_text(after)
    saved = await workspace.finish(worktree, "x")

    (found,) = await protected.changes(worktree.cache, base, saved.commit, ())

    assert found.reason.startswith(reason)
    assert found.path == path
    assert any(line in found.diff for line in after.splitlines() or [""])


async def test_more_and_other_tests_need_nobody(ada: Machine, origin: Origin) -> None:
    base = origin.push({"tests/test_x.py": WHOLE})
    worktree = await ada.prepare(FIRST)
    more = WHOLE.replace("test_a", "test_z") + "\n\ndef test_c():\n    assert True\n"
    (worktree.path / "tests/test_x.py").write_text(more)
    saved = await workspace.finish(worktree, "x")

    assert await reasons_of(worktree.cache, base, saved.commit) == []


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("sh ci/check.sh --fast", "ci/check.sh"),
        ("./ci/check.sh", "ci/check.sh"),
        ("env A=1 python3 tools/check.py", "tools/check.py"),
        ("uv run python tools/check.py", "tools/check.py"),
        ("make test", "Makefile"),
        ("tests:python -m pytest -q", "pytest.ini"),
    ],
)
async def test_what_a_check_runs_is_protected(
    ada: Machine, origin: Origin, command: str, path: str
) -> None:
    base = origin.push({path: "old\n"})
    worktree = await ada.prepare(FIRST)
    (worktree.path / path).write_text("exit 0\n")
    saved = await workspace.finish(worktree, "x")

    (reason,) = await reasons_of(worktree.cache, base, saved.commit, command)

    assert reason.startswith(f"changes {path}, which decides what the check ")
    assert await reasons_of(worktree.cache, base, saved.commit, "cargo test") == []


@pytest.mark.parametrize(
    ("path", "before", "harmless", "harmful", "command"),
    [
        (
            "package.json",
            '{"scripts": {"test": "jest"}}',
            '{"scripts": {"test": "jest"}, "dependencies": {"a": "1"}}',
            '{"scripts": {"test": "true"}}',
            "npm test",
        ),
        (
            "pyproject.toml",
            '[tool.pytest.ini_options]\naddopts = "-q"\n',
            '[tool.pytest.ini_options]\naddopts = "-q"\n[project]\nname = "x"\n',
            '[tool.pytest.ini_options]\naddopts = "--collect-only"\n',
            "pytest",
        ),
    ],
)
async def test_only_the_part_that_decides_is_protected(
    ada: Machine, origin: Origin, path: str, before: str, harmless: str, harmful: str, command: str
) -> None:
    base = origin.push({path: before})
    worktree = await ada.prepare(FIRST)
    found = {}
    for text in harmless, harmful:
        (worktree.path / path).write_text(text)
        saved = await workspace.finish(worktree, "x")
        found[text] = await reasons_of(worktree.cache, base, saved.commit, command)

    assert found[harmless] == []
    assert [path in reason for reason in found[harmful]] == [True]


async def test_the_forges_own_checks_are_protected(ada: Machine, origin: Origin) -> None:
    base = origin.tip()
    worktree = await ada.prepare(FIRST)
    (worktree.path / ".github/workflows").mkdir(parents=True)
    (worktree.path / ".github/workflows/ci.yml").write_text("on: push\n")
    saved = await workspace.finish(worktree, "x")

    (reason,) = await reasons_of(worktree.cache, base, saved.commit)

    assert reason.startswith("changes .github/workflows/ci.yml, which configures checks")


async def test_a_secret_is_not_shown_to_the_person(ada: Machine, origin: Origin) -> None:
    base = origin.push({".agentcom.toml": "\n"})
    secret = "AKIA" + "Q" * 16
    worktree = await ada.prepare(FIRST)
    (worktree.path / ".agentcom.toml").write_text(f'verify = "{secret}"\n')
    done = await worktree.cache.run("hash-object", "-w", "--stdin", data=secret.encode())
    assert done.text
    git(worktree.path, "commit", "-qam", "x")
    head = git(worktree.path, "rev-parse", "HEAD")
    await worktree.cache.run("fetch", "-q", str(worktree.path), head)

    (found,) = await protected.changes(worktree.cache, base, head, ())

    assert (found.reason, found.diff) == ("changes .agentcom.toml", "")
