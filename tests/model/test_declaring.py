"""How a check is declared, and what is said of mistakes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.model import errors, project_file
from agentcom.model.declaring import ProjectFileInvalid, of_line, of_table
from agentcom.model.verification import Check, CheckKind, DiffLimits


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ("pytest -q", Check("pytest -q", ("pytest", "-q"))),
        ("npm:test", Check("npm:test", ("npm:test",))),
        ("curl http://x", Check("curl http://x", ("curl", "http://x"))),
        (
            "tests:pytest -q",
            Check("tests:pytest -q", ("pytest", "-q"), kind=CheckKind.TESTS),
        ),
        (
            "exists:docs/*.md README",
            Check("exists:docs/*.md README", kind=CheckKind.EXISTS, paths=("README", "docs/*.md")),
        ),
        (
            "absent: **/*.orig",
            Check("absent: **/*.orig", kind=CheckKind.ABSENT, paths=("**/*.orig",)),
        ),
        (
            "diff:files=20 lines=500 allow=src/**,docs/ forbid=infra/**",
            Check(
                "diff:files=20 lines=500 allow=src/**,docs/ forbid=infra/**",
                kind=CheckKind.DIFF,
                diff=DiffLimits(
                    files=20, lines=500, allow=("docs/**", "src/**"), forbid=("infra/**",)
                ),
            ),
        ),
        ("secrets:diff", Check("secrets:diff", kind=CheckKind.SECRETS)),
    ],
)
def test_a_line_is_a_check(line: str, check: Check) -> None:
    assert of_line("verify", line) == check
    assert project_file.parse_project_file(f"verify = {line!r}").verify == (check,)


@pytest.mark.parametrize(
    ("table", "check"),
    [
        (
            {"tests": "pytest", "at_least": 5, "timeout": "5m", "memory": "2G", "output": "4K"},
            Check(
                "pytest",
                ("pytest",),
                timeout_ms=300_000,
                kind=CheckKind.TESTS,
                tests_min=5,
                memory_bytes=2 << 30,
                output_bytes=4 << 10,
            ),
        ),
        (
            {"exists": ["a", "b"], "name": "both"},
            Check("both", kind=CheckKind.EXISTS, paths=("a", "b")),
        ),
        ({"absent": "*.orig"}, Check("absent:*.orig", kind=CheckKind.ABSENT, paths=("*.orig",))),
        (
            {"diff": {"files": 3, "forbid": "infra/"}},
            Check("diff", kind=CheckKind.DIFF, diff=DiffLimits(files=3, forbid=("infra/**",))),
        ),
        ({"secrets": True}, Check("secrets", kind=CheckKind.SECRETS)),
    ],
)
def test_a_table_is_a_check(table: dict[str, object], check: Check) -> None:
    assert of_table("verify", table) == check


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("exist:README", "did you mean 'exists'?"),
        ("test:pytest", "did you mean 'tests'?"),
        ("diff:file=3", "did you mean 'files'?"),
        ("diff:files=many", "a whole number"),
        ("diff:", "at least one of files, lines, allow, forbid"),
        ("exists:", "a glob"),
        ("exists:/etc/passwd", "inside the repository"),
        ("absent:{a,b}", "only *, ? and **"),
        ("secrets:all", "write `secrets:diff`"),
        ("tests:", "an empty command"),
        ("tests:a | b", "no shell runs it"),
    ],
)
def test_a_mistake_in_a_line_is_named(line: str, says: str) -> None:
    with pytest.raises(errors.InvalidInput) as refusal:
        project_file.parse_command(line)

    assert says in refusal.value.message
    assert ".agentcom.toml" not in refusal.value.message


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"exist": "a"}, "did you mean 'exists'?"),
        ({"run": "a", "tests": "b"}, "exactly one of run, tests"),
        ({"name": "a"}, "exactly one of run, tests"),
        ({"exists": "a", "timeout": "5m"}, "unknown key 'timeout'"),
        ({"run": "a", "at_least": 3}, "goes with `tests`"),
        ({"tests": "a", "at_least": -1}, "a whole number"),
        ({"tests": "a", "at_least": True}, "a whole number"),
        ({"run": "a", "memory": "lots"}, '"512M"'),
        ({"run": "a", "memory": "1M"}, "at least 16M"),
        ({"run": "a", "output": "1G"}, "at most 64K"),
        ({"run": "a", "name": " "}, "verify.name"),
        ({"tests": 3}, "`tests` must be a command"),
        ({"secrets": "yes"}, "verify.secrets"),
        ({"diff": 3}, "a table like"),
        ({"diff": {}}, "at least one of"),
        ({"diff": {"lines": -1}}, "a whole number"),
        ({"diff": {"allow": [3]}}, "a glob"),
        ({"exists": []}, "a glob"),
    ],
)
def test_a_mistake_in_a_table_is_named(table: dict[str, object], says: str) -> None:
    with pytest.raises(ProjectFileInvalid) as refusal:
        of_table("verify", table)

    assert says in refusal.value.message


def test_only_a_command_sets_up() -> None:
    with pytest.raises(ProjectFileInvalid, match="setup: a command"):
        project_file.parse_project_file('setup = "exists:README"')


@pytest.mark.parametrize("value", ["-1", "6", "true", '"2"'])
def test_corrections_are_bounded(value: str) -> None:
    assert project_file.parse_project_file("corrections = 5").corrections == 5
    with pytest.raises(ProjectFileInvalid, match="from 0 to 5"):
        project_file.parse_project_file(f"corrections = {value}")


@given(st.sampled_from(["tests", "exists", "absent", "diff", "secrets"]), st.text())
def test_no_line_does_anything_but_parse_or_refuse(kind: str, text: str) -> None:
    try:
        check = of_line("verify", f"{kind}:{text}")
    except ProjectFileInvalid:
        return
    assert check.argv or check.paths or check.diff or check.kind is CheckKind.SECRETS
