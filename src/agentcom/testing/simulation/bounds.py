"""Checks that what begins stays within limits, claims of files and resources.

It counts in the auditor's own books, and compares claims on a few paths: not as the core does it.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from agentcom.model.ids import TaskId
from agentcom.model.task import Phase, Task
from agentcom.testing.simulation.books import Books
from agentcom.testing.simulation.trace import Trace

PATHS: Final = ("src/a.py", "src/b/c.py", "docs/d.md")
"""Files that the simulated tasks may claim."""


def check(books: Books, trace: Trace, task: Task, *, back: set[TaskId], new: set[str]) -> None:
    """What begins stays within every limit, and touches no file that is in use.

    A rule that came in the same batch may have come after what begins.
    """
    if not (books.rules or task.files or task.uses):
        return
    held = [
        other
        for other in books.live.values()
        if other.state.held and other.id not in back and other.id != task.id
    ]
    for scope in (f"submitter:{task.submitter}", *task.keys):
        rule = books.rules.get(scope) or books.rules.get(f"{scope.partition(':')[0]}:*")
        if rule is not None and rule.scope in new:
            continue
        if rule is not None and rule.concurrency is not None:
            under = sum(scope in (f"submitter:{o.submitter}", *o.keys) for o in held)
            trace.check("no limit is exceeded", under < rule.concurrency, (task, rule))
        if rule is not None and rule.rate is not None:
            earned = books.rates[scope].earned_at - task.changed_at
            most = rule.per_ms + rule.per_ms // rule.rate + 1
            trace.check("no rate is exceeded", earned <= most, (task, rule, earned))
    repo = [key for key in task.keys if key.startswith("repo:")]
    rivals = [o for o in held if o.files and [k for k in o.keys if k.startswith("repo:")] == repo]
    for other in rivals if task.files else ():
        apart = task.files_shared and other.files_shared
        apart = apart or not (_paths(task) & _paths(other))
        trace.check("files have one writer", apart, (task, other))
    _check_resources(books, trace, task, held)


def _check_resources(books: Books, trace: Trace, task: Task, held: Sequence[Task]) -> None:
    if task.machine is None or not task.uses:
        return
    capacity = books.resources.get(task.machine, {})
    here = [o for o in held if o.machine == task.machine and o.phase is not Phase.LANDING]
    for name, much in task.uses:
        used = much + sum(dict(other.uses).get(name, 0) for other in here)
        fits = used <= capacity.get(name, 0)
        trace.check("no machine gives more than it has", fits, (task, capacity))


def _paths(task: Task) -> set[str]:
    """Return the paths of a few that a task claims; not as the core compares claims."""
    return {path for path in PATHS if any(fnmatchcase(path, glob) for glob in task.files)}
