"""What the folder says about the repository: where it is, which branch, and what is not pushed."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentcom.cli.errors import CommandFailed, Exit
from agentcom.model import project_file
from agentcom.model.project_file import ProjectFile

GIT_S: Final = 20.0
"""Local questions only; a folder on a slow network disk may take a while."""
_NO_ORIGIN: Final = (
    "there is no remote origin: agents' branches come back into this repository, "
    "and git lets nobody merge into the branch that is checked out"
)
_HINT: Final = "git remote add origin URL, or give --repo, or --no-repo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A repository as tasks name it, and what agents will not see of this folder."""

    repo: str
    base: str
    notes: tuple[str, ...] = ()
    has_checks: bool = False


def infer(folder: Path) -> Folder | None:
    """Return the repository that `folder` is in; None if it is in none.

    Raises:
        CommandFailed: it is in one, which agents cannot fetch.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if not top:
        return None
    origin = _git(folder, "remote", "get-url", "origin")
    branch = _git(folder, "symbolic-ref", "--short", "-q", "HEAD")
    if not _git(folder, "rev-parse", "-q", "--verify", "HEAD"):
        raise CommandFailed(
            f"{top} has no commit yet",
            hint="git commit, or give --no-repo",
            exit_code=Exit.USAGE,
            code="usage",
        )
    base = _base(folder, branch, origin)
    notes = (*_unseen(folder), *(_unpushed(folder, base) if origin else (_NO_ORIGIN,)))
    return Folder(
        repo=_address(origin, Path(top)) if origin else top,
        base=base,
        notes=notes,
        has_checks=_has_checks(folder, base, origin),
    )


def project(folder: Path) -> ProjectFile:
    """Return what the repository of `folder` says of itself, at the base that tasks start from.

    Raises:
        CommandFailed: its file is not understood.
    """
    origin = _git(folder, "remote", "get-url", "origin")
    base = _base(folder, _git(folder, "symbolic-ref", "--short", "-q", "HEAD"), origin)
    where = f"refs/remotes/origin/{base}" if origin else base
    text = _git(folder, "show", f"{where}:{project_file.FILE_NAME}")
    try:
        return project_file.parse_project_file(text)
    except project_file.ProjectFileInvalid as error:
        raise CommandFailed(error.message, exit_code=Exit.USAGE, code=error.code) from error


def checks_hint(folder: Path) -> str:
    """Return the likely command that checks the project in `folder`; "" if nothing tells."""
    found = {
        "pytest": ("pytest.ini", "conftest.py", "tests/conftest.py"),
        "cargo test": ("Cargo.toml",),
        "go test ./...": ("go.mod",),
        "npm test": ("package.json",),
        "make test": ("Makefile",),
    }
    if _mentions_pytest(folder / "pyproject.toml"):
        return "pytest"
    for command, names in found.items():
        if any((folder / name).exists() for name in names):
            return command
    return ""


def _base(folder: Path, branch: str, origin: str) -> str:
    if not origin:
        return branch or "main"
    known = branch and _git(folder, "rev-parse", "-q", "--verify", f"refs/remotes/origin/{branch}")
    if known:
        return branch
    head = _git(folder, "symbolic-ref", "--short", "-q", "refs/remotes/origin/HEAD")
    return head.removeprefix("origin/") or _nearest(folder)


def _nearest(folder: Path) -> str:
    """Return the branch that a clone without word of origin's default most likely comes from."""
    asked = ("for-each-ref", "--sort=-committerdate", "--format=%(refname:lstrip=3)")
    names = _git(folder, *asked, "--merged=HEAD", "refs/remotes/origin").splitlines()
    names = [name for name in names if name != "HEAD" and not name.startswith("agent/")]
    return next((name for name in ("main", "master") if name in names), (*names, "main")[0])


def _address(origin: str, top: Path) -> str:
    """Return an address that means the same on every machine; relative paths are this folder's."""
    if origin.startswith((".", "~")):
        return str((top / Path(origin).expanduser()).resolve())
    return origin


def _unseen(folder: Path) -> tuple[str, ...]:
    changed = _git(folder, "status", "--porcelain").splitlines()
    if not changed:
        return ()
    return (f"{len(changed)} changed files are not committed: agents do not see them",)


def _unpushed(folder: Path, base: str) -> tuple[str, ...]:
    ahead = _git(folder, "rev-list", "--count", f"refs/remotes/origin/{base}..HEAD")
    if ahead in ("", "0"):
        return ()
    return (f"{ahead} commits are not pushed: agents start from origin's {base}",)


def _has_checks(folder: Path, base: str, origin: str) -> bool:
    where = f"refs/remotes/origin/{base}" if origin else base
    return bool(_git(folder, "ls-tree", "--full-tree", "--name-only", where, ".agentcom.toml"))


def _mentions_pytest(path: Path) -> bool:
    return path.is_file() and "pytest" in path.read_text("utf-8", errors="replace")


def _git(folder: Path, *arguments: str) -> str:
    """Return what git says; "" if it has nothing to say or refuses."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the person's own git
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=GIT_S,
        )
    except FileNotFoundError as error:
        raise CommandFailed("git is not installed", hint="apt install git, or --no-repo") from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed("git does not answer", hint=_HINT) from error
    return done.stdout.strip() if done.returncode == 0 else ""
