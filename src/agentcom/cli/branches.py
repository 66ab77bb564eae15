"""`agentcom task diff, checkout, land`: what a task's branch has, seen from a person's own clone.

The hub never clones, so these look in the folder that one is in: it must be a clone of the task's
repository. Nothing in it changes but remote-tracking refs, until `checkout` is asked for.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.steering import CHANGED_FIELDS, changed

FETCH_S: Final = 600.0
"""A person watches it, and may end it."""
_ID: Final = click.argument("task_id", metavar="ID")
_OURS: Final = "refs/agentcom/seen"
_DIFF: Final = ("diff", "--no-ext-diff", "--no-textconv")


class Clone:
    """The person's clone of a task's repository."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        """Find it in the folder that one is in.

        Raises:
            CommandFailed: there is none, or it is one of another repository.
        """
        repo = (task.get("spec") or {}).get("repo")
        if not repo:
            raise _no_branch("the task has no repository", "agentcom task logs ID")
        top = _said(Path.cwd(), "rev-parse", "--show-toplevel")
        if not top:
            raise _usage("this folder is no clone of a repository", f"git clone {repo}")
        self.folder = Path(top)
        self._repo = str(repo)
        self._remote = self._find_remote()

    def fetch(self, task: Mapping[str, Any]) -> tuple[str, str]:
        """Bring what an attempt made; return its commit, and the commit that it began from.

        Raises:
            CommandFailed: origin does not give it.
        """
        commit, ref = _source(task)
        base = (task.get("spec") or {}).get("base") or "HEAD"
        names = (f"+{ref or commit}:{_OURS}/work", f"+{base}:{_OURS}/base")
        try:
            self._fetch(*names)
        except CommandFailed:
            if ref is None:
                raise
            # The branch is gone, most often since it was merged; its commit is there all the same.
            self._fetch(f"+{commit}:{_OURS}/work", names[1])
        work = _said(self.folder, "rev-parse", "--verify", f"{_OURS}/work^{{commit}}")
        found = _said(self.folder, "merge-base", f"{_OURS}/base", f"{_OURS}/work")
        if found == work and task.get("base_commit"):
            found = str(task["base_commit"])  # it landed: the base has it all
        return work, found or work

    def diff(self, base: str, work: str, *arguments: str) -> int:
        """Show what changed between two commits, with the pager that git would take."""
        sys.stdout.flush()
        command = ["git", "-C", str(self.folder), *_DIFF, *arguments, base, work, "--"]
        return subprocess.run(command, check=False).returncode  # noqa: S603 - hashes and options

    def checkout(self, branch: str | None, commit: str) -> str:
        """Put the work into the folder; return the words for where it stands now.

        Raises:
            CommandFailed: something there is not committed, or the local branch has other commits.
        """
        if _said(self.folder, "status", "--porcelain"):
            raise CommandFailed(
                "this folder has changes that are not committed",
                hint="git stash --include-untracked, or use another clone",
                exit_code=Exit.STALE,
                code="conflict",
            )
        if branch is None:
            self._do("switch", "--quiet", "--detach", commit)
            return f"at {commit[:12]}"
        if _said(self.folder, "rev-parse", "-q", "--verify", f"refs/heads/{branch}"):
            self._do("switch", "--quiet", branch)
            self._do("merge", "--quiet", "--ff-only", commit)
        else:
            self._do("switch", "--quiet", "--create", branch, "--no-track", commit)
        return f"on {branch}"

    def _find_remote(self) -> str:
        names = _said(self.folder, "remote").splitlines()
        addresses = {name: _said(self.folder, "remote", "get-url", name) for name in names}
        for name, address in addresses.items():
            local = address and not address.startswith("-") and (self.folder / address).exists()
            places = {address, str((self.folder / address).resolve()) if local else ""}
            if self._repo in places:
                return name
        if str(self.folder) == self._repo:
            return self._repo
        shown = ", ".join(addresses.values()) or str(self.folder)
        raise _usage(f"this is a clone of {shown}, the task is of {self._repo}", "cd to that one")

    def _fetch(self, *names: str) -> None:
        self._do("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", self._remote, *names)

    def _do(self, *arguments: str) -> None:
        done = _git(self.folder, *arguments)
        if done.returncode != 0:
            said = output.plain(" ".join(done.stderr.split()))
            raise CommandFailed(
                f"git {arguments[0]} failed: {said}",
                hint="agentcom task show ID names the branch and the commit",
            )


@click.command(cls=click.Command)
@_ID
@click.option("--stat", is_flag=True, help="Only which files changed, and how much.")
@click.option("--name-only", is_flag=True, help="Only the names of the files.")
def diff(task_id: str, stat: bool, name_only: bool) -> int:
    """Show what a task has changed; run it in a clone of its repository.

    While the task is at work it shows the newest checkpoint.

    \b
    Examples:
      agentcom task diff @last --stat
      agentcom task diff @last
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api

    hub = api.connect()
    task = hub.task(hub.resolve(task_id))
    clone = Clone(task)
    work, base = clone.fetch(task)
    wanted = (*(("--stat",) if stat else ()), *(("--name-only",) if name_only else ()))
    return Exit.FAILED if clone.diff(base, work, *wanted) else Exit.DONE


@click.command(cls=click.Command)
@_ID
def checkout(task_id: str) -> int:
    """Bring a task's work into the clone that you are in, on its branch.

    Refuses if something in it is not committed.

    \b
    Example:
      agentcom task checkout @last
    """  # noqa: D301 - as above
    from agentcom.cli import api

    hub = api.connect()
    task = hub.task(hub.resolve(task_id))
    clone = Clone(task)
    work, _ = clone.fetch(task)
    click.echo(clone.checkout(task.get("branch"), work))
    return Exit.DONE


@click.command(cls=output.JsonCommand, fields=CHANGED_FIELDS)
@_ID
@click.option("--pull-request", is_flag=True, help="Open a pull request instead of merging.")
def land(task_id: str, pull_request: bool, as_json: tuple[str, ...] | None) -> None:
    """Bring the branch of a completed task, or of one under review, into its base.

    With the same checks as ever, and no agent. A completed task stays completed: another one lands
    its branch, and is what this prints.

    \b
    Example:
      agentcom task land @last
    """  # noqa: D301 - as above
    from agentcom.cli import api

    hub = api.connect()
    how = "pull-request" if pull_request else "merge"
    changed(hub.act(hub.resolve(task_id), "land", {"land": how}), as_json)


def _source(task: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the commit of a task's newest work, and the ref at origin that has it, if known."""
    commit, branch = task.get("commit"), task.get("branch")
    if commit and branch:
        return str(commit), f"refs/heads/{branch}"
    if commit:
        return str(commit), None
    saved = task.get("checkpoint")
    if not saved:
        raise _no_branch("no attempt has anything to show yet", "agentcom task why ID")
    return str(saved), None


def _said(folder: Path, *arguments: str) -> str:
    done = _git(folder, *arguments)
    return done.stdout.strip() if done.returncode == 0 else ""


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - no shell
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the person's own git
            capture_output=True,
            text=True,
            check=False,
            timeout=FETCH_S,
        )
    except FileNotFoundError as error:
        raise CommandFailed("git is not installed", hint="apt install git") from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed("git does not answer", hint="try again") from error


def _usage(message: str, hint: str) -> CommandFailed:
    return CommandFailed(message, hint=hint, exit_code=Exit.USAGE, code="usage")


def _no_branch(message: str, hint: str) -> CommandFailed:
    return CommandFailed(message, hint=hint, exit_code=Exit.MISSING, code="not_found")
