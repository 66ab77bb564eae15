"""Attempts that change the same files, though nobody said that they would.

A claim (`core/gates.py`) keeps tasks apart that declare their files. This is for the rest: with
each checkpoint a machine tells which paths an attempt has changed, and where two attempts of one
repository meet, both are told, once. Nothing is stopped: it may be harmless, or the wish.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from agentcom.core.effects import Notify
from agentcom.core.facts import Checkpointed
from agentcom.core.gates import REPOSITORY, Touched
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model import globs, limits
from agentcom.model.event import EventKind
from agentcom.model.ids import TaskId
from agentcom.model.note import one_line
from agentcom.model.result import Clash
from agentcom.model.task import Task

_SHOWN_CHARS = 120


def note(turn: Turn, task: Task, said: Checkpointed) -> None:
    """Take the newest word of what an attempt has changed; tell both where two meet."""
    touched, repo = turn.view.gates.touched, _repository(task)
    known = touched.get(task.id)
    mine = _bounded(said.touched)
    if repo is None or not (mine or known):
        return
    told = {} if known is None else dict(known.told)
    for other, verb, shared in _met(turn.view, task, repo, mine):
        attempt = (other.id, other.attempt)
        if len(told) < limits.OVERLAPS_MAX and attempt not in told:
            words = _words(verb, shared, other), _words("touches", shared, task)
            told[attempt] = words
            _tell(turn, task, words[0])
            _tell(turn, other, words[1])
    if known is None and len(touched) >= limits.TOUCHERS_MAX:
        turn.view.drop(touched, next(iter(touched)))
    former = {} if known is None or known.attempt != task.attempt else known.clashes
    count = max(said.touched_count, len(said.touched))
    turn.view.put(touched, task.id, Touched(task.attempt, repo, mine, count, told, former))
    for clash in said.clashes:
        _clash(turn, task, clash)


def words(view: PoolView, task: Task) -> Sequence[str]:
    """Return what there is to say of a running attempt and of others that change the same."""
    me, touched = (task.id, task.attempt), view.gates.touched
    known = touched.get(task.id)
    said = []
    if known is not None:
        paths = "1 path is" if known.changed == 1 else f"{known.changed} paths are"
        said.append(f"{paths} changed so far")
        said += [mine for (other, n), (mine, _) in known.told.items() if _runs(view, other, n)]
        running = {pair: at for pair, at in known.clashes.items() if at and _runs(view, *pair)}
        said += [_clash_words(at, view.tasks[other]) for (other, _), at in running.items()]
    said += [found.told[me][1] for found in touched.values() if me in found.told]
    return said[: 1 + limits.OVERLAPS_MAX]


def _clash(turn: Turn, task: Task, clash: Clash) -> None:
    """Tell two attempts that their work so far is in conflict, once for each change of that."""
    touched, other = turn.view.gates.touched, turn.view.tasks.get(clash.task)
    known, repo = touched.get(task.id), _repository(task)
    if known is None or other is None or not other.state.held or _repository(other) != repo:
        return
    them, me = (other.id, other.attempt), (task.id, task.attempt)
    paths = clash.paths[: limits.CLASH_PATHS]
    theirs = touched.get(other.id)
    if known.clashes.get(them, ()) == paths or len(known.clashes) >= limits.OVERLAPS_MAX:
        return
    turn.view.put(touched, task.id, known._replace(clashes={**known.clashes, them: paths}))
    if theirs is not None:
        if theirs.clashes.get(me, ()) == paths:
            return  # both were told when the other one found it
        turn.view.put(touched, other.id, theirs._replace(clashes={**theirs.clashes, me: paths}))
    _tell(turn, task, _clash_words(paths, other))
    _tell(turn, other, _clash_words(paths, task))


def _met(
    view: PoolView, task: Task, repo: str, mine: tuple[str, ...]
) -> Iterator[tuple[Task, str, Sequence[str]]]:
    """Yield tasks that also touch, or claim, what this one touches and did not declare."""
    ours, me = frozenset(mine), (task.id, task.attempt)
    met = {task.id}
    for other, found in view.gates.touched.items():
        shared = [path for path in found.paths if path in ours] if found.repo == repo else []
        if me in found.told:
            met.add(other)
        elif shared and other not in met:
            met.add(other)
            yield view.tasks[other], "touches", shared
    claims = view.gates.files_held.get(repo, {})
    others = {one: claim.globs for one, claim in claims.items() if not claim.shared}
    others = {one: wanted for one, wanted in others.items() if one not in met}
    if not others:
        return
    declared = task.files if not task.files_shared else ()
    room = limits.OVERLAP_CELLS - _cells(declared, mine)
    paths = [path for path in mine if not globs.covers(declared, path)] if room > 0 else ()
    for other, wanted in islice(others.items(), limits.TOUCHERS_MAX):
        room -= _cells(wanted, paths)
        if room < 0:
            return
        shared = [path for path in paths if globs.covers(wanted, path)]
        if shared:
            yield view.tasks[other], "claims", shared


def _cells(patterns: Sequence[str], paths: Sequence[str]) -> int:
    """Return what a comparison may cost, in characters compared."""
    return sum(map(len, patterns)) * sum(map(len, paths))


def _tell(turn: Turn, task: Task, text: str) -> None:
    assert task.machine is not None
    turn.record(task, EventKind.OVERLAP, text)
    turn.effects.append(Notify(task.machine, task.id, task.fence, text))


def _words(verb: str, paths: Sequence[str], other: Task) -> str:
    shown = [one_line(path, _SHOWN_CHARS) for path in paths[: limits.OVERLAP_PATHS]]
    rest = len(paths) - len(shown)
    more = f" and {rest} more" if rest else ""
    return f"also {verb} {', '.join(shown)}{more}: task {other.id}"


def _clash_words(paths: Sequence[str], other: Task) -> str:
    if not paths:
        return f"no longer in conflict with what it made: task {other.id}"
    return _words("would conflict in", paths, other).removeprefix("also ")


def _bounded(paths: Sequence[str]) -> tuple[str, ...]:
    """Return of what a machine told so much as is remembered."""
    kept, room = [], limits.TOUCHED_BYTES
    for path in paths[: limits.TOUCHED_MAX]:
        room -= len(path)
        if room < 0:
            break
        if 0 < len(path) <= limits.TOUCHED_PATH_CHARS:
            kept.append(path)
    return tuple(kept)


def _repository(task: Task) -> str | None:
    return next((key for key in task.keys if key.startswith(REPOSITORY)), None)


def _runs(view: PoolView, task_id: TaskId, attempt: int) -> bool:
    task = view.tasks.get(task_id)
    return task is not None and task.state.held and task.attempt == attempt
