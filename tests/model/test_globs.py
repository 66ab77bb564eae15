"""Globs: what is refused, what overlaps, and that the decision agrees with matching paths."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.model import globs, limits
from agentcom.model.errors import InvalidInput


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("src/a.py", "src/a.py"),
        ("src/*.py", "src/a.py"),
        ("src/**", "src/a/b/c.py"),
        ("src/**", "src/*"),
        ("**/test_*.py", "tests/core/**"),
        ("**", "README.md"),
        ("a*c", "ab*"),
        ("a?c", "abc"),
        ("**/x/**", "a/**/z"),
        ("src/**", "src"),
    ],
)
def test_patterns_overlap_if_a_path_matches_both(one: str, other: str) -> None:
    assert globs.overlap([one], [other])
    assert globs.overlap([other], [one])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("src/a.py", "src/b.py"),
        ("src/*.py", "src/a/b.py"),
        ("src/**", "docs/**"),
        ("*.md", "docs/a.md"),
        ("a?c", "abbc"),
        ("*.py", "*.md"),
        ("a/**/b", "a/**/c"),
    ],
)
def test_patterns_without_a_common_path_do_not_overlap(one: str, other: str) -> None:
    assert not globs.overlap([one], [other])
    assert not globs.overlap([other], [one])


def test_a_pattern_is_written_in_one_way() -> None:
    assert globs.canonical(["./src/", "src/**", "a.py"]) == ("a.py", "src/**")


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "/etc",
        "a//b",
        "../a",
        "a/./b",
        "[ab].py",
        "{a,b}",
        "!a",
        "a\\b",
        "a**",
        "a\0",
        "x" * 300,
    ],
)
def test_what_could_be_misunderstood_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInput, match="scope"):
        globs.canonical([bad])


def test_the_number_of_patterns_is_bounded() -> None:
    with pytest.raises(InvalidInput, match="at most"):
        globs.canonical(["a"] * (limits.SCOPE_GLOBS_MAX + 1))


def test_a_path_is_covered_by_the_patterns_it_matches() -> None:
    assert globs.covers(["src/**", "*.md"], "src/a/b.py")
    assert not globs.covers(["src/*", "*.md"], "src/a/b.py")


def expression(pattern: str) -> re.Pattern[str]:
    """Return what Python's own matcher makes of a pattern; paths end with a slash here."""
    parts = []
    for part in pattern.split("/"):
        if part == "**":
            parts.append("(?:[^/]*/)*")
        else:
            parts.append(re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]") + "/")
    return re.compile("".join(parts))


PATHS = ["/".join(parts) + "/" for n in (1, 2, 3) for parts in product(("a", "b", "ab"), repeat=n)]
PARTS = st.sampled_from(["a", "b", "*", "**", "a*", "*b", "?", "a?", "ab"])
PATTERNS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@given(PATTERNS, PATTERNS)
def test_a_common_path_means_overlap(one: str, other: str) -> None:
    found = any(
        expression(one).fullmatch(path) and expression(other).fullmatch(path) for path in PATHS
    )

    assert not found or globs.overlap([one], [other])


@given(PATTERNS, st.sampled_from(PATHS))
def test_covering_is_matching(pattern: str, path: str) -> None:
    matched = expression(pattern).fullmatch(path) is not None

    assert globs.covers([pattern], path[:-1]) == matched
