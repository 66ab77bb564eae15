"""What a commit changes, and whether that is within the bounds that a check declares."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentcom.model import globs, refs
from agentcom.model.verification import Check, CheckKind, CheckResult, DiffLimits
from agentcom.sidecar import searching
from agentcom.sidecar.repositories import Cache

NAMED_MAX: Final = 5
"""Paths and findings that a check's line names."""
FILES_MAX: Final = 100_000
"""Of a folder without a repository; what lies behind them is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One file that differs, by the paths that it had and has."""

    paths: tuple[str, ...]
    lines: int
    """Added and removed; 0 of what is no text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a commit does to its base."""

    files: tuple[Changed, ...]
    secrets: tuple[str, ...] = ()


async def read(cache: Cache, base: str, commit: str, checks: Sequence[Check]) -> Change | None:
    """Return what `checks` need to know of `base...commit`; None if they need nothing.

    Raises:
        GitFailed: the cache lacks one of the commits.
    """
    kinds = {check.kind for check in checks}
    if not any(kind.compares for kind in kinds):
        return None
    args = ("diff-tree", "-r", "-z", "-M", "--numstat", "--merge-base")
    done = await cache.run(*args, refs.check_commit(base), refs.check_commit(commit))
    secrets: tuple[str, ...] = ()
    if CheckKind.SECRETS in kinds:
        found = await searching.search_commits(cache, base, commit)
        secrets = tuple(str(finding) for finding in found)
    return Change(files=tuple(_files(done.fields)), secrets=secrets)


def judge(check: Check, change: Change | None) -> CheckResult:
    """Return what a check of the kind `diff` or `secrets` finds."""
    if change is None:
        return _result(check, "there is no repository, so nothing to compare with")
    if check.kind is CheckKind.SECRETS:
        return _result(check, _named(change.secrets))
    assert check.diff is not None
    return _result(check, "; ".join(_beyond(check.diff, change)))


def judge_paths(check: Check, paths: Sequence[str]) -> CheckResult:
    """Return what a check of the kind `exists` or `absent` finds among the paths of a tree."""
    if check.kind is CheckKind.EXISTS:
        lacks = [one for one in check.paths if not any(globs.covers((one,), p) for p in paths)]
        return _result(check, f"no file matches {_named(lacks)}" if lacks else "")
    there = [path for path in paths if globs.covers(check.paths, path)]
    return _result(check, f"there is {_named(there)}" if there else "")


def paths_of(folder: Path) -> list[str]:
    """Return the files of a folder, by their paths in it; links are not followed."""
    found: list[str] = []
    for place in folder.rglob("*"):
        if len(found) == FILES_MAX:
            break
        inside = place.relative_to(folder)
        if inside.parts[0] != ".git" and (place.is_symlink() or not place.is_dir()):
            found.append(inside.as_posix())
    return found


def _files(fields: Sequence[str]) -> Iterator[Changed]:
    at = 0
    while at < len(fields):
        added, removed, path = fields[at].split("\t", 2)
        moved = not path  # then the old and the new path stand in fields of their own
        paths = tuple(fields[at + 1 : at + 3]) if moved else (path,)
        at += 3 if moved else 1
        lines = 0 if added == "-" else int(added) + int(removed)
        yield Changed(paths=paths, lines=lines)


def _beyond(bounds: DiffLimits, change: Change) -> Iterator[str]:
    files, lines = len(change.files), sum(file.lines for file in change.files)
    if bounds.files is not None and files > bounds.files:
        yield f"{files} files changed, at most {bounds.files}"
    if bounds.lines is not None and lines > bounds.lines:
        yield f"{lines} lines changed, at most {bounds.lines}"
    paths = [path for file in change.files for path in file.paths]
    if bounds.allow:
        outside = [path for path in paths if not globs.covers(bounds.allow, path)]
        if outside:
            yield f"changes {_named(outside)}, which is not among {', '.join(bounds.allow)}"
    forbidden = [path for path in paths if globs.covers(bounds.forbid, path)]
    if forbidden:
        yield f"changes {_named(forbidden)}, which is forbidden"


def _named(found: Sequence[str]) -> str:
    rest = len(found) - NAMED_MAX
    text = ", ".join(found[:NAMED_MAX]) + (f" and {rest} more" if rest > 0 else "")
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _result(check: Check, wrong: str) -> CheckResult:
    return CheckResult(name=check.name, passed=not wrong, kind=check.kind, said=wrong)
