"""What a stand-in forge holds: pull requests over the branches of one bare git repository."""

import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

_BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_IDENTITY: Final = ("-c", "user.name=forge", "-c", "user.email=forge@example.com")


@dataclass(slots=True, kw_only=True)
class Said:
    """Something that somebody said about a pull request."""

    id: int
    sort: str
    """`issue`, `line` (of the code) or `review`."""
    author: str
    body: str
    at: str
    path: str | None = None
    line: int | None = None
    state: str = "COMMENTED"
    """Of a review: in GitHub's words."""
    review: int = 0


@dataclass(slots=True, kw_only=True)
class Pull:
    """A pull request."""

    number: int
    title: str
    body: str
    branch: str
    base: str
    author: str
    state: str = "open"
    merged_as: str | None = None
    last_commit: str = ""
    said: list[Said] = field(default_factory=list)


class Repository:
    """One repository of a forge, whose git part is a bare repository in a folder."""

    def __init__(self, folder: Path, *, login: str) -> None:
        self.folder = folder
        self.login = login
        """The account of the token that is handed out."""
        self.writers = {login: True}
        self.bots: set[str] = set()
        self.pulls: list[Pull] = []
        self.checks: dict[str, dict[str, str]] = {}
        """Commit -> name of a run -> `success` or `failure`."""
        self._ids = 100
        self._moments = 0

    def open(self, *, title: str, body: str, branch: str, base: str) -> Pull | None:
        """Open a pull request; None if the branch has one, or there is no such branch."""
        taken = any(one.branch == branch and one.state == "open" for one in self.pulls)
        if taken or not self.tip(branch) or not self.tip(base):
            return None
        number = len(self.pulls) + 1
        pull = Pull(
            number=number, title=title, body=body, branch=branch, base=base, author=self.login
        )
        self.pulls.append(pull)
        return pull

    def comment(
        self, number: int, author: str, body: str, *, path: str | None = None, line: int = 1
    ) -> Said:
        """Say something, about the whole or about a line of a file."""
        pull = self.pulls[number - 1]
        if path is None:
            return self._say(pull, "issue", author, body)
        review = self._say(pull, "review", author, "")
        said = self._say(pull, "line", author, body)
        said.path, said.line, said.review = path, line, review.id
        return said

    def review(self, number: int, author: str, state: str, body: str = "") -> Said:
        """Give a verdict: `APPROVED`, `CHANGES_REQUESTED` or `COMMENTED`."""
        said = self._say(self.pulls[number - 1], "review", author, body)
        said.state = state
        return said

    def run(self, commit: str, name: str, outcome: str) -> None:
        """Let a run of CI end."""
        self.checks.setdefault(commit, {})[name] = outcome

    def close(self, number: int) -> None:
        """Close a pull request without merging it."""
        pull = self.pulls[number - 1]
        pull.last_commit = self.tip(pull.branch)
        pull.state = "closed"

    def merge(self, number: int) -> str:
        """Merge a pull request into its base, and return the commit that this makes."""
        pull = self.pulls[number - 1]
        ours, theirs = self.tip(pull.base), self.tip(pull.branch)
        tree = self._git("merge-tree", "--write-tree", ours, theirs)
        title = f"Merge pull request {number}"
        merged = self._git("commit-tree", tree, "-p", ours, "-p", theirs, "-m", title)
        self._git("update-ref", f"refs/heads/{pull.base}", merged, ours)
        pull.last_commit, pull.merged_as, pull.state = theirs, merged, "merged"
        return merged

    def conflicts(self, pull: Pull) -> bool:
        """Tell whether an open pull request changes what its base changed, too."""
        ours, theirs = self.tip(pull.base), self.tip(pull.branch)
        if pull.state != "open" or not (ours and theirs):
            return False
        made = self._git("merge-tree", "--write-tree", "--name-only", ours, theirs, check=False)
        return "CONFLICT" in made

    def commit_of(self, pull: Pull) -> str:
        """Return the tip of a pull request's branch, or the last one that it had."""
        return self.tip(pull.branch) or pull.last_commit

    def tip(self, branch: str) -> str:
        """Return the commit of a branch; "" if there is none."""
        return self._git("rev-parse", "-q", "--verify", f"refs/heads/{branch}", check=False)

    def _say(self, pull: Pull, sort: str, author: str, body: str) -> Said:
        self._ids += 1
        self._moments += 1
        at = (_BEGAN + timedelta(seconds=self._moments)).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = Said(id=self._ids, sort=sort, author=author, body=body, at=at)
        pull.said.append(said)
        return said

    def _git(self, *args: str, check: bool = True) -> str:
        done = subprocess.run(  # noqa: S603 - fixed arguments, names made by tests
            ["git", *_IDENTITY, "-C", str(self.folder), *args],  # noqa: S607 - the system's git
            capture_output=True,
            text=True,
            check=check,
        )
        return done.stdout.strip()
