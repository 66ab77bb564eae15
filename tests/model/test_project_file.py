import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.model import project_file
from agentcom.model.project_file import (
    CachedPaths,
    Lfs,
    ProjectFile,
    ProjectFileInvalid,
    Submodules,
    parse_project_file,
)
from agentcom.model.task import LandPolicy
from agentcom.model.verification import Check


def test_an_empty_file_asks_for_nothing() -> None:
    assert parse_project_file("") == ProjectFile()


def test_one_command_is_enough() -> None:
    found = parse_project_file("verify = \"pytest -q 'tests/a b'\"")

    assert found.verify == (Check("pytest -q 'tests/a b'", ("pytest", "-q", "tests/a b")),)
    assert found.land is LandPolicy.BRANCH


def test_a_full_file_is_read() -> None:
    found = parse_project_file(
        """
        land = "merge"
        setup = "uv sync"
        verify = ["ruff check .", { name = "tests", run = "pytest", timeout = "10m" }]
        """
    )

    assert found == ProjectFile(
        verify=(
            Check("ruff check .", ("ruff", "check", ".")),
            Check("tests", ("pytest",), timeout_ms=600_000),
        ),
        setup=(Check("uv sync", ("uv", "sync")),),
        land=LandPolicy.MERGE,
    )


def test_tables_of_toml_work_too() -> None:
    found = parse_project_file('[[verify]]\nrun = "make test"\ntimeout = 90\n')

    assert found.verify == (Check("make test", ("make", "test"), timeout_ms=90_000),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('verfy = "pytest"', "did you mean 'verify'"),
        ("colour = 1", "known are verify, setup, land"),
        ("verify = ", "not valid TOML"),
        ('verify = "pytest \'"', "no closing quotation"),
        ('verify = ""', "an empty command"),
        ("verify = 3", "a command, or a table"),
        ('verify = "ruff check && pytest"', "give a list of commands"),
        ('verify = "A=1 pytest"', "write `env A=1 pytest`"),
        ('verify = { run = "x", timeot = 3 }', "did you mean 'timeout'"),
        ('verify = { run = "x", timeout = "soon" }', '"90s" or "10m"'),
        ('verify = { run = "x", timeout = 0 }', "more than 0"),
        ('verify = { run = "x", timeout = "5h" }', "at most 4h"),
        ('verify = { run = "x", timeout = true }', "seconds"),
        ('verify = { name = "x" }', "exactly one of run"),
        ("verify = { run = 3 }", "`run` must be a command"),
        ('land = "now"', '"branch" or "merge"'),
        ('land = ["merge"]', '"branch" or "merge"'),
        (f"verify = {['x'] * 17}", "at most 16"),
        ('verify = "a\\u0000b"', "none of them zero"),
        (f"# {'x' * project_file.FILE_BYTES_MAX}", "at most 65536 bytes"),
    ],
)
def test_a_mistake_is_named(text: str, says: str) -> None:
    with pytest.raises(ProjectFileInvalid) as refusal:
        parse_project_file(text)

    assert says in refusal.value.message
    assert refusal.value.message.startswith(".agentcom.toml")


@given(st.text())
def test_no_text_does_anything_but_parse_or_refuse(text: str) -> None:
    for source in (text, f"verify = {text!r}"):
        try:
            found = parse_project_file(source)
        except ProjectFileInvalid:
            continue
        assert all(check.argv or not check.kind.runs for check in found.verify)


def test_what_set_up_makes_and_needs_is_read() -> None:
    found = parse_project_file(
        """
        setup = "npm ci"
        env = { NODE_ENV = "test" }
        pass_env = ["JAVA_HOME"]
        submodules = "empty"
        lfs = "pointers"
        cache = { paths = "node_modules", key = ["package-lock.json"] }
        [scopes]
        shop = ["src/shop/", "./tests/shop/**"]
        """
    )

    assert found.env == {"NODE_ENV": "test"}
    assert found.pass_env == ("JAVA_HOME",)
    assert found.cache == CachedPaths(paths=("node_modules",), key=("package-lock.json",))
    assert found.scopes == {"shop": ("src/shop/**", "tests/shop/**")}
    assert (found.submodules, found.lfs) == (Submodules.EMPTY, Lfs.POINTERS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('env = { PATH = "x" }', "PATH is set by the machine"),
        ('env = { LD_PRELOAD = "x" }', "LD_PRELOAD is set by the machine"),
        ('env = { GIT_DIR = "x" }', "GIT_DIR is set by the machine"),
        ('env = { AGENTCOM_TOKEN = "x" }', "is set by the machine"),
        ("env = { A = 1 }", "env.A: a text"),
        ('env = { "a b" = "x" }', "'a b' is no name"),
        ('env = ["A"]', "a table"),
        ('pass_env = ["GITHUB_TOKEN"]', "GITHUB_TOKEN looks like a secret"),
        ('pass_env = ["OPENAI_API_KEY"]', "looks like a secret"),
        ('pass_env = "DB_PASSWORD"', "looks like a secret"),
        ('pass_env = ["DATABASE_URL"]', "looks like a secret"),
        ('pass_env = ["HOME"]', "HOME is set by the machine"),
        ("pass_env = [1]", "texts that are not empty"),
        ('cache = "x"', "a table of `paths` and `key`"),
        ('cache = { paths = "x" }', "cache.key: the files"),
        ('cache = { paths = "../x", key = "y" }', "no path inside"),
        ('cache = { paths = "/x", key = "y" }', "no path inside"),
        ('cache = { paths = ".git/hooks", key = "y" }', "no path inside"),
        ('cache = { path = "x" }', "did you mean 'paths'"),
        ('scopes = { Shop = "x" }', "scopes.Shop"),
        ('scopes = { shop = "/x" }', "scopes.shop"),
        ('submodules = "yes"', '"fetch" or "empty"'),
        ("lfs = false", '"fetch" or "pointers"'),
    ],
)
def test_a_mistake_in_what_set_up_needs_is_named(text: str, says: str) -> None:
    with pytest.raises(ProjectFileInvalid, match=re.escape(says)):
        parse_project_file(text)


@pytest.mark.parametrize("name", ["JAVA_HOME", "GOFLAGS", "NODE_OPTIONS", "KEYBOARD", "CI"])
def test_names_that_are_no_secret_are_passed(name: str) -> None:
    assert parse_project_file(f'pass_env = "{name}"').pass_env == (name,)
