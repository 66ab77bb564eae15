"""The forge of the simulation: pull requests over the origin, and the people who review them.

It does what `sidecar/pulling.py` and `sidecar/reviews.py` ask of a real one. What its people do,
they do when a machine looks: they want something else, merge, or close.
"""

import hashlib
import random
from dataclasses import dataclass
from typing import Final

from agentcom.model.ids import TaskId
from agentcom.model.result import ReviewOutcome
from agentcom.testing.simulation.kernel import SECOND
from agentcom.testing.simulation.trace import Trace

LOOK_US: Final = 20 * SECOND
"""Between two looks at a pull request, as sidecars take them."""
WANTS: Final = 0.15
MERGES: Final = 0.15
CLOSES: Final = 0.03
"""What reviewers do between two looks, each with this chance."""


@dataclass(slots=True)
class Pull:
    """A pull request."""

    commit: str
    state: str = "open"
    wanted: int = 0
    """Comments so far."""
    answered: int = 0
    """Those that some attempt has answered."""

    @property
    def merged_as(self) -> str:
        """The commit that a merge makes, named as git names commits."""
        return hashlib.sha1(self.commit.encode(), usedforsecurity=False).hexdigest()


class Forge:
    """All pull requests of one repository, by the task whose branch they are of."""

    def __init__(self, trace: Trace) -> None:
        self.pulls: dict[TaskId, list[Pull]] = {}
        self._trace = trace

    def find(self, task: TaskId) -> Pull | None:
        """Return the newest pull request of a task."""
        return self.pulls.get(task, [None])[-1]

    def push(self, task: TaskId, commit: str) -> None:
        """Take note that a task's branch has another commit."""
        pull = self.find(task)
        if pull is not None and pull.state == "open":
            pull.commit = commit

    def open(self, task: TaskId, commit: str) -> Pull:
        """Open a pull request; one that is open already is that one."""
        pull = self.find(task)
        if pull is not None and pull.state == "open":
            return pull
        opened = self.pulls.setdefault(task, [])
        merged = [one for one in opened if one.state == "merged"]
        self._trace.check("what is merged is not opened again", not merged, task)
        opened.append(Pull(commit))
        self._trace.counts["pull requests"] += 1
        return opened[-1]

    def answer(self, task: TaskId, seen: int) -> None:
        """Answer the first `seen` comments."""
        pull = self.find(task)
        if pull is not None:
            pull.answered = max(pull.answered, min(seen, pull.wanted))

    def look(
        self, task: TaskId, rng: random.Random, *, quiet: bool
    ) -> tuple[ReviewOutcome, Pull] | None:
        """Let reviewers act, and return what a machine sees of a task's pull request."""
        pull = self.find(task)
        if pull is None:
            return None
        if pull.state == "open":
            self._act(pull, rng, quiet=quiet)
        if pull.state == "merged":
            return ReviewOutcome.MERGED, pull
        if pull.state == "closed":
            return ReviewOutcome.CLOSED, pull
        return (ReviewOutcome.WANTED, pull) if pull.wanted > pull.answered else None

    def _act(self, pull: Pull, rng: random.Random, *, quiet: bool) -> None:
        chance = rng.random()
        if quiet or chance < MERGES:
            pull.state = "merged"
        elif chance < MERGES + CLOSES:
            pull.state = "closed"
        elif chance < MERGES + CLOSES + WANTS:
            pull.wanted += 1
            self._trace.counts["wishes of reviewers"] += 1
