"""Names of git branches and refs that we make, and the check of names that come from outside.

`git check-ref-format` accepts `-x`, `;$()` and more, so what enters a git command line is held to
a narrower alphabet here. Nothing in this module runs git or touches a disk.
"""

import re
import unicodedata
from typing import Final

from agentcom.model import errors
from agentcom.model.ids import AgentId, Fence, TaskId

SLUG_CHARS_MAX: Final = 40
REF_CHARS_MAX: Final = 200
REPOSITORY_CHARS_MAX: Final = 1_000

CHECKPOINTS: Final = "refs/agentcom/checkpoint"
FENCES: Final = "refs/agentcom/fence"
RESCUES: Final = "refs/agentcom/rescue"
WORK: Final = "refs/agentcom/work"
ORIGIN: Final = "refs/remotes/origin"

_PART: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_CHECKPOINT: Final = re.compile(
    rf"{CHECKPOINTS}/({_PART.pattern})/([0-9]{{1,19}})\.([0-9]{{1,19}})"
)
_BRANCH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+@#=-]*")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_PATH: Final = r"[A-Za-z0-9._~/+@%=,-]+"
_USER: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_HTTPS: Final = re.compile(rf"https://{_HOST}(?::[0-9]{{1,5}})?/{_PATH}")
_SSH: Final = re.compile(rf"ssh://(?:{_USER}@)?{_HOST}(?::[0-9]{{1,5}})?/{_PATH}")
_SCHEME: Final = r"(?:https?|ssh|git|file|ext|fd|ftps?):"
_SCP: Final = re.compile(rf"(?!{_SCHEME})(?:{_USER}@)?{_HOST}:(?!//|-){_PATH}")
_LOCAL: Final = re.compile(r"(?:file://)?/[^\x00-\x1f\x7f:?*\"<>|\\]+")
_CREDENTIALS: Final = re.compile(r"[a-z+]+://[^/@]*@|ssh://[^/@]*:[^/@]*@", re.IGNORECASE)


class UnsafeRef(errors.AgentComError):
    """A branch, ref or commit name that git could take for something else."""

    code = "unsafe_ref"
    status = 422


class UnsafeRepository(errors.AgentComError):
    """A repository address that is not https, ssh or an absolute local path."""

    code = "unsafe_repository"
    status = 422


def slug(title: str) -> str:
    """Return 1 to 40 characters of `[a-z0-9-]` that remind a person of `title`."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode("ascii").lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return words[:SLUG_CHARS_MAX].strip("-") or "task"


def branch_name(*, agent: AgentId, task: TaskId, title: str, fence: Fence) -> str:
    """Return the branch of one attempt; two attempts never share one."""
    return f"agent/{_part(agent)}/{_part(task)}-{slug(title)}-{_fence(fence)}"


def pull_branch(task: TaskId) -> str:
    """Return the branch of a task's pull request: all its attempts move the same one."""
    return f"agent/pr/{_part(task)}"


def work_branch(*, agent: AgentId, task: TaskId) -> str:
    """Return the branch that the agent sees checked out; it is never pushed by this name."""
    return f"agent/{_part(agent)}/{_part(task)}"


def checkpoint_ref(task: TaskId, fence: Fence) -> str:
    """Return the private ref on origin that holds an attempt's work in progress."""
    return f"{CHECKPOINTS}/{_part(task)}/{_fence(fence)}"


def of_checkpoint(ref: str) -> tuple[TaskId, Fence] | None:
    """Return the task and the attempt that a checkpoint's ref names; None if it is none."""
    match = _CHECKPOINT.fullmatch(ref)
    return None if match is None else (TaskId(match[1]), Fence(int(match[2]), int(match[3])))


def rescue_ref(task: TaskId, fence: Fence) -> str:
    """Return the local ref that keeps what an attempt left behind, until a person drops it."""
    return f"{RESCUES}/{_part(task)}/{_fence(fence)}"


def work_ref(task: TaskId) -> str:
    """Return the local ref that holds the newest commit of the task's worktree."""
    return f"{WORK}/{_part(task)}"


def fence_ref(task: TaskId) -> str:
    """Return the ref on origin that only the newest attempt can move."""
    return f"{FENCES}/{_part(task)}"


def origin_ref(branch: str) -> str:
    """Return where the clone cache keeps origin's `branch`."""
    return f"{ORIGIN}/{check_branch(branch)}"


def check_branch(name: str) -> str:
    """Return `name` if it can only be a branch.

    Raises:
        UnsafeRef: it could be an option, a path, a revision expression or a shell's business.
    """
    parts = name.split("/")
    if (
        len(name) > REF_CHARS_MAX
        or _BRANCH.fullmatch(name) is None
        or ".." in name
        or "@{" in name
        or name == "HEAD"
        or name.startswith("refs/")
        or any(not part or part.startswith((".", "-")) for part in parts)
        or any(part.endswith((".", ".lock")) for part in parts)
    ):
        raise UnsafeRef(f"branch {_shown(name)} is not allowed: use letters, digits, '.', '_', '-'")
    return name


def check_commit(commit: str) -> str:
    """Return `commit` if it is a full hash.

    Raises:
        UnsafeRef: it is abbreviated, or no hash at all.
    """
    if _COMMIT.fullmatch(commit) is None:
        raise UnsafeRef(f"{_shown(commit)} is not a full commit hash")
    return commit


def check_repository(url: str) -> str:
    """Return `url` if git can fetch it without running anything but git and ssh.

    Local paths are allowed: they are the operator's own repositories.

    Raises:
        UnsafeRepository: another scheme, an option, credentials, `..` or control characters.
    """
    if _CREDENTIALS.match(url) and not _SSH.fullmatch(url):
        raise UnsafeRepository("the repository address holds credentials: use a git helper or ssh")
    patterns = (_HTTPS, _SSH, _SCP, _LOCAL)
    known = any(pattern.fullmatch(url) for pattern in patterns)
    if not known or len(url) > REPOSITORY_CHARS_MAX or ".." in re.split("[/:]", url):
        raise UnsafeRepository(
            f"{_shown(url)} is not a repository address: use https, ssh or an absolute local path"
        )
    return url


def _part(name: str) -> str:
    if _PART.fullmatch(name) is None:
        raise UnsafeRef(f"{_shown(name)} cannot be part of a ref")
    return name


def _fence(fence: Fence) -> str:
    return f"{fence.incarnation:d}.{fence.attempt:d}"


def _shown(text: str) -> str:
    # Outside text goes into a message only cut and quoted, and without a URL's credentials.
    return repr(re.sub(r"://[^/@]*@", "://***@", text)[:80])
