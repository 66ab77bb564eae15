"""What the sidecar asks of a forge: one interface, one file for each kind.

The words are those of pull requests; GitLab's merge requests are the same thing. Everything that
a forge tells is data of strangers: it is bounded here, and quoted before an agent sees it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from agentcom.model import errors

COMMENT_CHARS_MAX: Final = 8_000
"""Of one comment; a longer one is cut. A page of prose has 3,000."""
FAILED_CHECKS_MAX: Final = 20
"""Runs that are told of; the first failures say what is wrong."""


class ForgeError(errors.AgentComError):
    """A forge did not do what was asked of it."""

    code = "forge_refused"
    status = 502


class ForgeDenied(ForgeError):
    """The forge does not take this machine's token, or lets it do too little."""

    code = "forge_denied"


class ForgeMissing(ForgeError):
    """The forge has no such repository or pull request, or hides it from this machine."""

    code = "forge_missing"


class ForgeAway(ForgeError):
    """The forge cannot be reached, or is ill; ask again."""

    code = "forge_away"
    retryable = True


class ForgeLimited(ForgeError):
    """The forge has had enough questions; come back after `retry_after_ms`."""

    code = "forge_limited"
    retryable = True

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class NoForge(ForgeError):
    """Nothing says which forge a repository is at, or this machine has no token for it."""

    code = "no_forge"


class Kind(StrEnum):
    """Whose API a forge speaks."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"
    """Forgejo, too."""


class PullState(StrEnum):
    """Where a pull request stands."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


class ForgeSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an operator says of a forge that is not one of the public ones."""

    kind: Kind
    api: str = ""
    """Where its API begins; "" is that kind's usual place on the host."""
    token_env: str = ""
    """The variable of the sidecar's environment that holds the token."""
    path: str = ""
    """`owner/name`, where the repository's address does not tell."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A repository at a forge."""

    kind: Kind
    api: str
    """Where its API begins, without a slash at the end."""
    path: str
    """`owner/name`; at GitLab groups may stand before it."""
    host: str = ""
    """Whose token is used."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A pull request as it is to be."""

    branch: str
    base: str
    title: str
    body: str


class PullRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A pull request as the forge has it."""

    number: int
    url: str
    state: PullState
    branch: str
    commit: str
    """The tip of its branch as the forge knows it."""
    base: str
    """The branch that it is meant for."""
    merged_as: str | None = None
    stuck: bool = False
    """Whether the forge says that it cannot be merged; a conflict is one reason of several."""


class Author(msgspec.Struct, frozen=True):
    """Who wrote a comment."""

    login: str
    key: str = ""
    """What the forge wants to hear to name that account."""
    bot: bool = False


class Comment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was said about a pull request."""

    id: str
    """Of this pull request's comments alone: a letter for its sort, and the forge's number."""
    author: Author
    body: str
    at: str = ""
    path: str | None = None
    line: int | None = None
    wants: bool = False
    """True: its writer asks for changes in so many words."""
    approves: bool = False


class FailedCheck(msgspec.Struct, frozen=True):
    """A run of the forge's CI that went wrong."""

    name: str
    url: str = ""


class Forge(ABC):
    """One repository at a forge, seen with this machine's token.

    Every method raises `ForgeError` if the forge does not do it.
    """

    @abstractmethod
    async def login(self) -> str:
        """Return the name of the account that the token is of."""

    @abstractmethod
    async def may_push(self) -> bool:
        """Tell whether the token may open pull requests of branches in this repository."""

    @abstractmethod
    async def find(self, branch: str, base: str) -> PullRequest | None:
        """Return the newest pull request of `branch`, whatever its state."""

    @abstractmethod
    async def open(self, draft: Draft) -> PullRequest:
        """Open a pull request; raises `ForgeError` if one is open for the branch."""

    @abstractmethod
    async def describe(self, number: int, draft: Draft) -> None:
        """Give an open pull request another title and body."""

    @abstractmethod
    async def show(self, number: int) -> PullRequest:
        """Return a pull request as it is now."""

    @abstractmethod
    async def comments(self, number: int) -> Sequence[Comment]:
        """Return what was said, oldest first."""

    @abstractmethod
    async def failed_checks(self, commit: str) -> Sequence[FailedCheck]:
        """Return the runs of CI that went wrong for a commit."""

    @abstractmethod
    async def writes(self, author: Author) -> bool:
        """Tell whether an account may write to the repository."""

    @abstractmethod
    async def say(self, number: int, body: str) -> None:
        """Write a comment."""
