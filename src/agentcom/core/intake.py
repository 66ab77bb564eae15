"""How tasks come in: bounds, references within one submit, dependencies, cycles."""

from collections.abc import Container, Mapping, Sequence
from typing import Final

import msgspec

from agentcom.core import expiry, facts, graphs, loops, placement, subtasks
from agentcom.core.facts import Fact
from agentcom.core.gates import REPOSITORY
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model import budget, globs, limit, limits, project_file, refs
from agentcom.model.batch import Table
from agentcom.model.errors import Conflict, InvalidInput, NotFound
from agentcom.model.event import EventKind
from agentcom.model.graph import Condition, Dependency, Edge
from agentcom.model.ids import TaskId
from agentcom.model.replies import Submitted
from agentcom.model.requirement import PROMPT, parse_capability
from agentcom.model.task import Task, TaskBody, TaskSpec, TaskState, Wait

_SUBMITTED: Final = EventKind.SUBMITTED
_WAITING: Final = TaskState.WAITING
_QUEUED: Final = TaskState.QUEUED
NO_NAMES: Final[Mapping[str, TaskId]] = {}
_ONLY_PROMPT: Final = (PROMPT,)  # shared: most tasks need just this


def wanted(view: PoolView, fact: Fact, body: facts.Submit) -> Sequence[tuple[Table, str]]:
    """Return the rows of dependencies, groups and families that the view lacks."""
    specs = body.specs
    if not [1 for spec in specs if spec.depends_on or spec.group or spec.reviews]:
        return subtasks.wanted(view, body) if body.parent is not None else ()
    depends = [dependency.task for spec in specs for dependency in graphs.depends_on(spec)]
    refs_here = {spec.ref for spec in specs}
    gone = [(Table.TASK, on) for on in depends if on not in refs_here and on not in view.tasks]
    more = [*graphs.keys_of(view, fact.actor.project, specs), *subtasks.wanted(view, body)]
    return [*gone, *more]


def submit(turn: Turn, fact: Fact, body: facts.Submit) -> Submitted:
    """Create all tasks of one request, or none.

    Raises:
        InvalidInput: a field is over its bound, or the dependencies form a cycle.
        NotFound: a dependency does not exist, or not for this submitter.
        Conflict: a live task has the same unique key.
    """
    if not 1 <= len(body.specs) <= limits.SUBMIT_TASKS_MAX:
        raise InvalidInput("tasks", f"submit 1 to {limits.SUBMIT_TASKS_MAX} tasks at once")
    if body.parent is not None or fact.actor.machine is not None:
        fact, body = subtasks.admitted(turn, fact, body)
    tasks = [(TaskId(turn.ids.new()), spec) for spec in body.specs]
    names = _names(tasks)
    if names:
        _check_order(body.specs)
    unschedulable, can_run = [], {}
    for task_id, spec in tasks:
        check_spec(spec)
        task = create(turn, fact, task_id, spec, names, lineage=body.lineage)
        shape = turn.view.shape_of(task)
        if shape not in can_run:
            can_run[shape] = placement.can_run(turn.view, shape)
        if not can_run[shape] and not spec.approval:
            unschedulable.append(task_id)
    return Submitted(tuple([task_id for task_id, _ in tasks]), tuple(unschedulable))


def check_spec(spec: TaskSpec) -> None:
    """Check every bound of one specification; raises `InvalidInput`."""
    _check_text("title", spec.title, limits.TITLE_CHARS)
    if not spec.title.strip():
        raise InvalidInput("title", "a task needs a title")
    if not spec.prompt and not spec.command and not spec.approval:
        raise InvalidInput("prompt", "a task needs a prompt or a command")
    if len(spec.prompt.encode()) > limits.PROMPT_BYTES or "\0" in spec.prompt:
        raise InvalidInput("prompt", f"at most {limits.PROMPT_BYTES} bytes, and no NUL")
    if spec.command or spec.verify:
        _check_commands(spec)
    _check_numbers(spec)
    if spec.unique_key is not None:
        _check_text("unique_key", spec.unique_key, limits.UNIQUE_KEY_CHARS)
    if spec.group is not None or spec.approval:
        graphs.check_spec(spec)
    if spec.labels:
        _check_labels(spec.labels)
    if _is_placed(spec):
        _check_placement(spec)
    _check_repository(spec)


def _check_repository(spec: TaskSpec) -> None:
    if spec.repo is not None:
        refs.check_repository(spec.repo)
    if spec.base is not None:
        refs.check_branch(spec.base)


def _check_commands(spec: TaskSpec) -> None:
    _check_words("command", spec.command, limits.COMMAND_ARGS, limits.COMMAND_BYTES)
    _check_words("verify", spec.verify, limits.VERIFY_COMMANDS_MAX, limits.COMMAND_BYTES)
    for line in spec.verify:
        if project_file.parse_command(line).kind.compares and spec.repo is None:
            rule = f"{line!r} compares with a base, and the task has no repository"
            raise InvalidInput("verify", rule)


def _check_placement(spec: TaskSpec) -> None:
    if len(spec.prefers) > limits.PREFERS_MAX:
        raise InvalidInput("prefers", f"at most {limits.PREFERS_MAX}")
    if len(spec.keys) > limits.KEYS_MAX:
        raise InvalidInput("keys", f"at most {limits.KEYS_MAX}")
    for wish in spec.prefers:
        placement.parse(wish)
    for key in spec.keys:
        limit.check_key(key)
    check_amounts("uses", spec.uses)
    globs.canonical(spec.scope)
    if spec.kind:
        parse_capability(spec.kind, field="kind")


def check_amounts(field: str, amounts: Mapping[str, int]) -> None:
    """Check named resources; raises `InvalidInput`."""
    if len(amounts) > limits.USES_MAX:
        raise InvalidInput(field, f"at most {limits.USES_MAX} resources")
    for name, much in amounts.items():
        parse_capability(name, field=field)
        if "=" in name or not 1 <= much < 1 << 53:
            raise InvalidInput(field, f"{name}: a name, and a whole number from 1")


def _check_numbers(spec: TaskSpec) -> None:
    if spec.corrections is not None and not 0 <= spec.corrections <= limits.CORRECTIONS_MAX:
        raise InvalidInput("corrections", f"from 0 to {limits.CORRECTIONS_MAX}")
    if not -limits.PRIORITY_MAX <= spec.priority <= limits.PRIORITY_MAX:
        raise InvalidInput("priority", f"from -{limits.PRIORITY_MAX} to {limits.PRIORITY_MAX}")
    if not limits.ATTEMPT_DEADLINE_MIN_MS <= spec.deadline_ms <= limits.ATTEMPT_DEADLINE_MAX_MS:
        raise InvalidInput("deadline_ms", "from one second to seven days")
    if not 1 <= spec.failures_max <= limits.FAILURES_BOUND:
        raise InvalidInput("failures_max", f"from 1 to {limits.FAILURES_BOUND}")
    if len(spec.depends_on) > limits.DEPENDENCIES_MAX:
        raise InvalidInput("depends_on", f"at most {limits.DEPENDENCIES_MAX}")
    if spec.not_before is not None and not 0 <= spec.not_before < 1 << 53:
        raise InvalidInput("not_before", "UTC milliseconds since 1970")
    if spec.budget is not None:
        budget.check(spec.budget)


def create(
    turn: Turn,
    fact: Fact,
    task_id: TaskId,
    spec: TaskSpec,
    names: Mapping[str, TaskId] = NO_NAMES,
    *,
    lineage: str = "",
) -> Task:
    """Create one task; `names` are the ids of those that come with it."""
    view = turn.view
    if spec.start_by is not None:
        expiry.check(spec, turn.now.wall)
    if spec.unique_key is not None:
        if spec.unique_key in view.unique:
            raise Conflict(f"task {view.unique[spec.unique_key]} has this unique key and is live")
        view.put(view.unique, spec.unique_key, task_id)
    blocked = False
    if spec.depends_on or spec.reviews:
        spec, fresh = _resolved(spec, names), set(names.values())
        blocked = not all(edge.met for edge in learn_edges(turn, fact, task_id, spec, fresh))
    elif spec.ref is not None:
        spec = msgspec.structs.replace(spec, ref=None)
    cause = fact.cause or task_id
    turn.insert_body(TaskBody(task_id, fact.actor.user, turn.now.wall, cause, spec))
    task = _task(turn, fact, task_id, spec, blocked=blocked, lineage=lineage or spec.repo or "")
    if spec.repo or _is_placed(spec):
        task = msgspec.structs.replace(
            task,
            prefers=spec.prefers,
            uses=tuple(sorted(spec.uses.items())),
            keys=_keys(spec),
            files=globs.canonical(spec.scope),
            files_shared=spec.scope_shared,
            kind=spec.kind,
        )
    if spec.group or spec.parent or spec.approval or spec.reviews:
        if spec.parent is not None and fact.actor.machine is None:
            raise InvalidInput("parent", "only the agent of a task can ask for its sub-tasks")
        task = graphs.placed(view, task, spec)
    return turn.place(None, task, _SUBMITTED)


def _is_placed(spec: TaskSpec) -> bool:
    return bool(spec.prefers or spec.uses or spec.keys or spec.scope or spec.kind)


def _task(
    turn: Turn, fact: Fact, task_id: TaskId, spec: TaskSpec, *, blocked: bool, lineage: str
) -> Task:
    submitter = fact.actor.user
    ahead = spec.not_before if spec.not_before and spec.not_before > turn.now.wall else None
    wait = Wait.DEPENDENCIES if blocked else Wait.START_TIME if ahead else None
    if spec.approval and not wait:
        wait = Wait.APPROVAL
    watched = (lineage or spec.unique_key is not None) and not spec.approval
    waits = wait or watched  # what is watched lines up when it is let in
    start_tag, seq = (0.0, 0) if waits else turn.line_up(fact.actor.project, submitter)
    task = Task(  # a call with over 15 keywords builds a dict of them (Python 3.11)
        task_id,
        fact.actor.project,
        submitter,
        spec.title,
        _WAITING if wait else _QUEUED,
        turn.now.wall,
        wait=wait,
        until=ahead,
        needs=needs_of(turn.view, spec),
        emergency=spec.emergency,
        priority=spec.priority,
        start_tag=start_tag,
        seq=seq,
        deadline_ms=spec.deadline_ms,
        failures_max=spec.failures_max,
        must_verify=bool(spec.verify),
        unique_key=spec.unique_key,
        cause=fact.cause or task_id,
        on_quota=spec.on_quota,
        budget=spec.budget,
        expires_at=spec.start_by,
        lineage=lineage,
    )
    return loops.admit(turn, task, repeats=spec.repeats) if watched else task


def needs_of(view: PoolView, spec: TaskSpec) -> tuple[str, ...]:
    """Return what an agent must have for a task, in canonical order."""
    if not spec.needs:
        return () if spec.command else _ONLY_PROMPT
    needs = spec.needs if spec.command else (*spec.needs, PROMPT)
    return view.write_needs(needs)


def _keys(spec: TaskSpec) -> tuple[str, ...]:
    keys = {f"key:{key}": None for key in spec.keys}
    if spec.repo is not None:
        name = limit.repository_name(spec.repo)
        keys[f"{REPOSITORY}{name}"] = None
        if spec.base is not None:
            keys[f"branch:{name}#{spec.base}"] = None
    return tuple(keys)


def _resolved(spec: TaskSpec, names: Mapping[str, TaskId]) -> TaskSpec:
    """Return a specification that names tasks by their ids."""
    depends = {
        one.task: msgspec.structs.replace(one, task=names.get(one.task, one.task))
        for one in graphs.depends_on(spec)
    }
    reviews = None if spec.reviews is None else names.get(spec.reviews, spec.reviews)
    return msgspec.structs.replace(
        spec, depends_on=tuple(depends.values()), reviews=reviews, ref=None
    )


def learn_edges(
    turn: Turn, fact: Fact, task_id: TaskId, spec: TaskSpec, fresh: Container[str] = ()
) -> Sequence[Edge]:
    """Store the edges of a task as they stand now, and return them; raises as `edge_to` does.

    `fresh` are tasks of the same submit, which may not be there yet.
    """
    view = turn.view
    edges: dict[TaskId, Edge] = {}
    for dependency in spec.depends_on:
        edge = _edge(task_id, dependency)
        if edge.on not in fresh:
            edge = edge_to(turn, fact, edge)
        review = graphs.review_of(spec, dependency.task)
        edges[edge.on] = msgspec.structs.replace(edge, review=review) if review else edge
    for edge in [edge for edge in edges.values() if edge.children and edge.met]:
        edges |= {more.on: more for more in graphs.children_of(view, edge, edges)}
    learnt = {on: graphs.learn_edge(turn, edge) for on, edge in edges.items()}
    view.put(view.edges, task_id, learnt)
    return list(learnt.values())


def edge_to(turn: Turn, fact: Fact, edge: Edge) -> Edge:
    """Return an edge as it stands now.

    Raises:
        NotFound: there is no such task in the submitter's project.
        InvalidInput: it has ended already, not as the condition wants, and nobody would wait.
    """
    on = edge.on
    task = turn.view.tasks.get(on) or fact.found.get((Table.TASK, on))
    if not isinstance(task, Task) or task.project != fact.actor.project:
        raise NotFound(f"depends_on: there is no task {on}")
    succeeded = task.state is TaskState.COMPLETED
    if not task.state.terminal or graphs.waits_for_retry(edge, succeeded=succeeded):
        return edge
    if edge.condition is Condition.SUCCESS and not succeeded:
        raise InvalidInput("depends_on", f"task {on} is {task.state.value}; retry it first")
    return graphs.met(edge, graphs.end_of(task))


def _edge(task: TaskId, dependency: Dependency) -> Edge:
    return Edge(
        task=task,
        on=TaskId(dependency.task),
        condition=dependency.condition,
        on_failure=dependency.on_failure,
        children=dependency.children,
    )


def _names(tasks: Sequence[tuple[TaskId, TaskSpec]]) -> Mapping[str, TaskId]:
    names: dict[str, TaskId] = {}
    for task_id, spec in tasks:
        if spec.ref is None:
            continue
        _check_text("ref", spec.ref, limits.UNIQUE_KEY_CHARS)
        if spec.ref in names:
            raise InvalidInput("ref", f"{spec.ref!r} names two tasks")
        names[spec.ref] = task_id
    return names


def _check_order(specs: Sequence[TaskSpec]) -> None:
    """Refuse cycles and chains over the depth bound among the tasks of one submit."""
    needs = {spec.ref: [d.task for d in graphs.depends_on(spec)] for spec in specs if spec.ref}
    depth: dict[str, int] = {}
    for start in needs:
        path: list[tuple[str, int]] = [(start, 0)]
        trail: dict[str, None] = {start: None}
        while path:
            name, index = path.pop()
            inner = [n for n in needs[name] if n in needs]
            if index < len(inner):
                path.append((name, index + 1))
                child = inner[index]
                if child in trail:
                    cycle = " -> ".join([*list(trail)[list(trail).index(child) :], child])
                    raise InvalidInput("depends_on", f"the tasks wait for each other: {cycle}")
                if child not in depth:
                    path.append((child, 0))
                    trail[child] = None
                continue
            depth[name] = 1 + max((depth[n] for n in inner), default=0)
            trail.pop(name, None)
            if depth[name] > limits.DEPTH_MAX:
                raise InvalidInput("depends_on", f"a chain of over {limits.DEPTH_MAX} tasks")


def _check_text(field: str, text: str, chars: int) -> None:
    if len(text) > chars or not text.isprintable():
        raise InvalidInput(field, f"at most {chars} characters, none of them a control character")


def _check_words(field: str, words: Sequence[str], count: int, size: int) -> None:
    if len(words) > count or sum(len(word.encode()) for word in words) > size:
        raise InvalidInput(field, f"at most {count} items and {size} bytes")
    if any("\0" in word for word in words):
        raise InvalidInput(field, "no NUL characters")


def _check_labels(labels: Mapping[str, str]) -> None:
    size = max(len(k.encode()) + len(v.encode()) for k, v in labels.items())
    if len(labels) > limits.LABELS_MAX or size > limits.LABEL_BYTES:
        rule = f"at most {limits.LABELS_MAX} of {limits.LABEL_BYTES} bytes each"
        raise InvalidInput("labels", rule)
    if any("\0" in text for pair in labels.items() for text in pair):
        raise InvalidInput("labels", "no NUL characters")
