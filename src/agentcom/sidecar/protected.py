"""Changes that could make bad work look good: a person looks at them before the work counts.

They are recognised by names and by what test files usually look like, in common languages: a help
for the person, not a guard. What counts:

- the project's file, and a repository inside the folder;
- what the declared commands run: the script that a command names, the file that its runner reads
  (`make` and the Makefile), the `scripts` of a `package.json`, pytest's part of `pyproject.toml`;
- configuration of continuous integration, and of who must review;
- a test file that is deleted, emptied, moved to where no runner finds it, or no file any more;
- a test file that has fewer tests than before, or in which more tests are skipped.
"""

import asyncio
import json
import posixpath
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple

from agentcom.model import globs, refs
from agentcom.model.declaring import FILE_NAME
from agentcom.model.result import Protected
from agentcom.model.verification import Check
from agentcom.sidecar import secrets_scan
from agentcom.sidecar.repositories import Cache

DIFF_CHARS: Final = 4_000
"""Of one change that a person is shown; they fetch the commit for more."""
DIFFS_CHARS: Final = 24_000
"""Of all of them: a result travels in one frame, with the output of checks."""
CONTENT_CHARS_MAX: Final = 1 << 20
"""A larger configuration file is generated; it counts as changed."""

LINKS_MAX: Final = 100
"""New links of one result, each read by itself."""

_LINK: Final = "120000"
"""Git's mode for a symbolic link."""
_SUBMODULE: Final = "160000"
"""Git's mode for a commit of another repository."""
_EMPTY_BLOB: Final = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
"""The hash of a file without content (git's own constant for SHA-1 repositories)."""
_CI: Final = globs.canonical([
    ".github/workflows/**", ".github/actions/**", ".gitea/workflows/**", ".forgejo/workflows/**",
    ".gitlab-ci.yml", ".gitlab/ci/**", ".circleci/**", ".buildkite/**", ".woodpecker/**",
    ".woodpecker.yml", ".travis.yml", ".drone.yml", "azure-pipelines.yml",
    "bitbucket-pipelines.yml", "Jenkinsfile", "appveyor.yml", ".cirrus.yml",
    "CODEOWNERS", ".github/CODEOWNERS", ".gitlab/CODEOWNERS", "docs/CODEOWNERS",
])  # fmt: skip
_INTERPRETERS: Final = re.compile(
    r"(?:ba|da|z|k)?sh|python[0-9.]*|node|deno|bun|ruby|perl|php|pwsh|bats|Rscript"
)
_BEFORE: Final = frozenset(
    {"env", "uv", "run", "poetry", "pipenv", "hatch", "time", "nice", "xvfb-run"}
)
"""Words that only lead to the command."""
_READS: Final[Mapping[str, Sequence[str]]] = {
    "make": ("Makefile", "makefile", "GNUmakefile"),
    "gmake": ("Makefile", "makefile", "GNUmakefile"),
    "just": ("justfile", "Justfile", ".justfile"),
    "task": ("Taskfile.yml", "Taskfile.yaml"),
    "rake": ("Rakefile",),
    "tox": ("tox.ini",),
    "nox": ("noxfile.py",),
    "pytest": ("pytest.ini", "tox.ini", "setup.cfg"),
    "pre-commit": (".pre-commit-config.yaml",),
}
_TEST_FOLDERS: Final = frozenset({"test", "tests", "spec", "specs", "__tests__", "testing"})
_TEST_NAMES: Final = (
    "test_*.*",
    "*_test.*",
    "*_tests.*",
    "*.test.*",
    "*.spec.*",
    "*_spec.*",
    "*Test.*",
    "*Tests.*",
    "*Spec.*",
    "conftest.py",
)
_A_TEST: Final = re.compile(
    r"^\s*(?:(?:async )?def test\w*\s*\("
    r"|(?:it|test|specify|describe|context)(?:\.\w+)*(?:\s*\(|\s+[\"'])"
    r"|func (?:Test|Fuzz|Benchmark)\w*\(|#\[(?:\w+::)?test\b|@(?:Parameterized)?Test\b|@test )"
)
_A_SKIP: Final = re.compile(
    r"\b(?:pytest\.(?:mark\.)?(?:skip|skipif|xfail)\b|pytest\.importorskip\b"
    r"|unittest\.skip|skipTest\("
    r"|(?:it|test|describe|context|suite)\.(?:skip|only|todo|failing)\b"
    r"|x(?:it|describe|test|context)\s*\(|f(?:it|describe)\s*\(|t\.Skip\w*\(|__test__\s*=\s*False)"
    r"|^\s*(?:#\[ignore\b|@(?:Ignore|Disabled)\b|@skip\b|collect_ignore)"
)


class _Entry(NamedTuple):
    """One line of git's raw comparison, with its patch."""

    mode: str
    old: str
    new: str
    status: str
    path: str
    target: str
    patch: str


async def changes(cache: Cache, base: str, commit: str, checks: Iterable[Check]) -> list[Protected]:
    """Return what of `base...commit` a person must see, and why; empty if nobody need.

    `checks` are those of the base, with its set-up.

    Raises:
        GitFailed: the cache lacks one of the commits.
    """
    found: list[Protected] = []
    room = DIFFS_CHARS
    commands = [check.argv for check in checks if check.argv]
    entries = await _entries(cache, base, commit)
    links = [entry for entry in entries if entry.mode == _LINK and entry.status != "D"]
    if len(links) > LINKS_MAX:
        found.append(Protected(reason=f"adds {len(links)} links, too many to look at"))
    for entry in entries:
        reasons = [*_reasons(entry, commands), *await _of_content(cache, entry, commands)]
        if entry in links[:LINKS_MAX]:
            reasons += await _link_out(cache, entry)
        for number, reason in enumerate(reasons):
            diff = "" if number else _shown(entry)[: max(0, room)]
            room -= len(diff)
            found.append(Protected(reason=reason, path=_text(entry.target), diff=diff))
    return found


def _shown(entry: _Entry) -> str:
    """Return what a person is shown of a change: no secret leaves this machine for that."""
    secret = secrets_scan.scan(entry.target, entry.patch.encode())
    return "" if secret else entry.patch[:DIFF_CHARS]


def is_test(path: str) -> bool:
    """Tell whether a path looks like a test, in the layouts of common languages."""
    folders = {part.lower() for part in PurePosixPath(path).parts[:-1]}
    return bool(folders & _TEST_FOLDERS) or _has_test_name(path)


def named_by(argv: Sequence[str]) -> Collection[str]:
    """Return the paths that decide what a command does: its script, and what its runner reads."""
    words = [word for word in argv if not (word.startswith("-") or "=" in word)]
    while words and words[0] in _BEFORE:
        words = words[1:]
    if not words:
        return ()
    program = PurePosixPath(words[0]).name
    found = {_plain(words[0]), *_READS.get(program, ())} if "/" in words[0] else {
        *_READS.get(program, ())
    }  # fmt: skip
    if _INTERPRETERS.fullmatch(program):
        module = argv[argv.index("-m") + 1 :][:1] if "-m" in argv else []
        found.update(_READS.get(module[0], ()) if module else map(_plain, words[1:2]))
    return found


async def _entries(cache: Cache, base: str, commit: str) -> list[_Entry]:
    range_ = (refs.check_commit(base), refs.check_commit(commit))
    same = ("diff-tree", "-r", "-M", "--no-abbrev", "--merge-base")
    # Two commands, for -z would have names of files in the patches as they are, with their lines.
    raw, done = await asyncio.gather(
        cache.run(*same, "-z", "--raw", *range_),
        cache.run(*same, "-p", "--no-color", "--no-ext-diff", "--no-textconv", *range_),
    )
    fields = raw.fields
    # Git writes the patches in the order of the raw lines, and no line of content begins so.
    patches = f"\n{_decoded(done.out)}".split("\ndiff --git ")[1:]
    found: list[_Entry] = []
    at = 0
    while at < len(fields):
        _, mode, old, new, status = fields[at].split(" ")
        moved = status.startswith(("R", "C"))
        path, target = fields[at + 1], fields[at + 2 if moved else at + 1]
        at += 3 if moved else 2
        patch = patches[len(found)] if len(found) < len(patches) else ""
        found.append(_Entry(mode, old, new, status, path, target, patch))
    return found


def _reasons(entry: _Entry, commands: Sequence[Sequence[str]]) -> Iterator[str]:
    path, target = _text(entry.path), _text(entry.target)
    if FILE_NAME in {path.lower(), target.lower()}:
        yield f"changes {FILE_NAME}"
    if entry.mode == _SUBMODULE:
        yield f"holds the repository {target}, whose files are not in the commit"
    for argv in commands:
        if {path, target} & set(named_by(argv)) and not is_test(path):
            yield f"changes {path}, which decides what the check {argv[0]!r} does"
            break
    if globs.covers(_CI, path) or globs.covers(_CI, target):
        yield f"changes {target}, which configures checks or reviews at the forge"
    if is_test(path):
        yield from _lost_test(entry)


def _lost_test(entry: _Entry) -> Iterator[str]:
    path, target = _text(entry.path), _text(entry.target)
    if entry.status == "D":
        yield f"deletes the test {path}"
    elif entry.status == "T":
        yield f"replaces the test {path} by something that is no file"
    elif entry.status == "M" and entry.new == _EMPTY_BLOB:
        yield f"empties the test {path}"
    elif entry.status.startswith("R") and not _still_runs(path, target):
        yield f"moves the test {path} to {target}"
    elif not entry.status.startswith(("A", "C")):
        fewer = -_more(_A_TEST, entry.patch)
        if fewer > 0:
            yield f"takes {fewer} {'test' if fewer == 1 else 'tests'} out of {path}"
        if _more(_A_SKIP, entry.patch) > 0:
            yield f"skips tests in {path}"


def _more(pattern: re.Pattern[str], patch: str) -> int:
    """Return how many lines more than before match."""
    body = patch.partition("\n@@")[2].splitlines()
    added = sum(line[:1] == "+" and pattern.search(line[1:]) is not None for line in body)
    return added - sum(line[:1] == "-" and pattern.search(line[1:]) is not None for line in body)


async def _link_out(cache: Cache, entry: _Entry) -> list[str]:
    """Return what is wrong with a new link: one may lead whoever follows it anywhere."""
    target = await _content(cache, entry.new)
    place = posixpath.normpath(posixpath.join(posixpath.dirname(entry.target), target))
    if place.startswith(("/", "../")) or place == ".." or ".git" in place.lower().split("/"):
        return [f"adds the link {_text(entry.target)}, which leads out of the repository"]
    return []


async def _of_content(cache: Cache, entry: _Entry, commands: Sequence[Sequence[str]]) -> list[str]:
    """Return what changes in the part of a file that decides what commands do."""
    part = _PARTS.get(entry.path)
    words = {PurePosixPath(word).name for argv in commands for word in argv}
    if part is None or not words & part.runners or entry.status not in {"M", "D"}:
        return []
    before = part.read(await _content(cache, entry.old))
    after = part.read(await _content(cache, entry.new)) if entry.status == "M" else None
    if before == after:
        return []
    return [f"changes {part.name} of {entry.path}, which decides what the checks do"]


async def _content(cache: Cache, oid: str) -> str:
    return _decoded((await cache.run("cat-file", "blob", oid)).out[:CONTENT_CHARS_MAX])


class _Part(NamedTuple):
    """What of a configuration file decides what some commands do."""

    name: str
    runners: frozenset[str]
    read: Callable[[str], object]


def _scripts(text: str) -> object:
    found = _parsed(json.loads, text)
    return found.get("scripts") if isinstance(found, dict) else text


def _pytest(text: str) -> object:
    found = _parsed(tomllib.loads, text)
    tool = found.get("tool") if isinstance(found, dict) else None
    return tool.get("pytest") if isinstance(tool, dict) else tool


def _parsed(load: Callable[[str], Any], text: str) -> Any:
    try:
        return load(text)
    except (ValueError, RecursionError):
        return None


_PARTS: Final[Mapping[str, _Part]] = {
    "package.json": _Part("`scripts`", frozenset({"npm", "npx", "pnpm", "yarn", "bun"}), _scripts),
    "pyproject.toml": _Part(
        "pytest's part", frozenset({"pytest", "py.test", "tox", "nox"}), _pytest
    ),
}


def _has_test_name(path: str) -> bool:
    place = PurePosixPath(path)
    return any(place.match(name) for name in _TEST_NAMES)


def _still_runs(path: str, target: str) -> bool:
    """Tell whether runners find a moved test: they go by names, some by the folder as well."""
    same_kind = PurePosixPath(path).suffix == PurePosixPath(target).suffix
    named = _has_test_name(target) or not _has_test_name(path)
    return is_test(target) and same_kind and named


def _plain(word: str) -> str:
    return word.removeprefix("./")


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _text(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
