"""How tasks come in."""

import msgspec
import pytest

from agentcom.core import facts, intake
from agentcom.model import limits
from agentcom.model.budget import Budget
from agentcom.model.errors import AgentComError, Conflict, InvalidInput, NotFound
from agentcom.model.graph import Condition, Dependency
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import ProjectId, TaskId, UserId, WallTime
from agentcom.model.replies import Submitted
from agentcom.model.task import TaskSpec, TaskState
from agentcom.testing.world import person
from tests.core.acts import Pool, failed

replace = msgspec.structs.replace
PLAIN = TaskSpec(title="t", prompt="p")
STRANGER = Identity(
    role=Role.SUBMITTER, user=UserId("eve"), credential="e", project=ProjectId("other")
)

GOOD: dict[str, list[object]] = {
    "title": ["x" * limits.TITLE_CHARS, "größe"],
    "prompt": ["x" * limits.PROMPT_BYTES, "two\nlines"],
    "command": [("x",) * limits.COMMAND_ARGS, ("x" * limits.COMMAND_BYTES,)],
    "verify": [("pytest",) * limits.VERIFY_COMMANDS_MAX],
    "priority": [-limits.PRIORITY_MAX, limits.PRIORITY_MAX],
    "deadline_ms": [limits.ATTEMPT_DEADLINE_MIN_MS, limits.ATTEMPT_DEADLINE_MAX_MS],
    "failures_max": [1, limits.FAILURES_BOUND],
    "corrections": [0, limits.CORRECTIONS_MAX],
    "not_before": [0, (1 << 53) - 1],
    "start_by": [(1 << 53) - 1],
    "unique_key": ["k" * limits.UNIQUE_KEY_CHARS],
    "ref": ["r" * limits.UNIQUE_KEY_CHARS],
    "labels": [{f"l{n}": "v" for n in range(limits.LABELS_MAX)}, {"k": "v" * 1_023}],
    "budget": [Budget(tokens=1), Budget(cost_micros=limits.BUDGET_MAX)],
    "needs": [tuple(f"n{n}" for n in range(limits.NEEDS_MAX - 1))],  # and one for the prompt
    "repo": ["https://example.com/a.git"],
    "base": ["main"],
    "prefers": [("gpu*1000", "spread"), tuple(f"p{n}" for n in range(limits.PREFERS_MAX))],
    "keys": [("deploy", "db/main#1"), tuple(f"k{n}" for n in range(limits.KEYS_MAX))],
    "scope": [("src/**", "*.md"), tuple(f"f{n}" for n in range(limits.SCOPE_GLOBS_MAX))],
    "kind": ["review"],
    "uses": [{"cpu": 2, "browser": 1}],
}
BAD: dict[str, list[object]] = {
    "title": ["", "  ", "x" * (limits.TITLE_CHARS + 1), "a\nb", "a\0b"],
    "prompt": ["", "x" * (limits.PROMPT_BYTES + 1), "ü" * (limits.PROMPT_BYTES // 2 + 1), "a\0b"],
    "command": [
        ("x",) * (limits.COMMAND_ARGS + 1),
        ("x" * (limits.COMMAND_BYTES + 1),),
        ("a\0b",),
    ],
    "verify": [("x",) * (limits.VERIFY_COMMANDS_MAX + 1), ("a\0b",)],
    "priority": [-limits.PRIORITY_MAX - 1, limits.PRIORITY_MAX + 1],
    "deadline_ms": [limits.ATTEMPT_DEADLINE_MIN_MS - 1, limits.ATTEMPT_DEADLINE_MAX_MS + 1],
    "failures_max": [0, limits.FAILURES_BOUND + 1],
    "corrections": [-1, limits.CORRECTIONS_MAX + 1],
    "depends_on": [tuple(Dependency(f"x{n}") for n in range(limits.DEPENDENCIES_MAX + 1))],
    "not_before": [-1, 1 << 53],
    "start_by": [-1, 0, 1 << 53],
    "unique_key": ["k" * (limits.UNIQUE_KEY_CHARS + 1), "a\0b"],
    "ref": ["r" * (limits.UNIQUE_KEY_CHARS + 1), "a\nb"],
    "labels": [
        {f"l{n}": "v" for n in range(limits.LABELS_MAX + 1)},
        {"k": "v" * limits.LABEL_BYTES},
        {"a\0b": "v"},
        {"k": "a\0b"},
    ],
    "budget": [Budget(), Budget(tokens=0), Budget(turns=limits.BUDGET_MAX + 1)],
    "needs": [tuple(f"n{n}" for n in range(limits.NEEDS_MAX + 1)), ("NOT A NEED",)],
    "repo": ["--upload-pack=touch /tmp/x"],
    "base": ["-x", "a..b"],
    "prefers": [
        ("gpu*0",),
        ("gpu*1001",),
        ("NO",),
        tuple(f"p{n}" for n in range(limits.PREFERS_MAX + 1)),
    ],
    "keys": [
        ("",),
        ("a b",),
        ("k" * (limits.KEY_CHARS + 1),),
        tuple(f"k{n}" for n in range(limits.KEYS_MAX + 1)),
    ],
    "scope": [("/etc",), ("../x",), tuple(f"f{n}" for n in range(limits.SCOPE_GLOBS_MAX + 1))],
    "kind": ["A B"],
    "uses": [
        {"cpu": 0},
        {"cpu": 1 << 53},
        {"A": 1},
        {"a=b": 1},
        {f"r{n}": 1 for n in range(limits.USES_MAX + 1)},
    ],
    "group": ["", "-x", "a b", "g" * (limits.GROUP_CHARS + 1)],
    "parent": ["x"],
}
UNSAFE = {"repo", "base"}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in GOOD.items() for v in vs])
def test_a_field_may_be_as_large_as_its_bound(field: str, value: object) -> None:
    (task,) = Pool().submit(replace(PLAIN, **{field: value}))

    assert task


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in BAD.items() for v in vs])
def test_a_field_over_its_bound_is_refused_and_named(field: str, value: object) -> None:
    world = Pool()

    error = AgentComError if field in UNSAFE else InvalidInput
    with pytest.raises(error, match=None if field in UNSAFE else f"^{field}"):
        world.submit(PLAIN, replace(PLAIN, **{field: value}))

    assert world.rows == {}


def test_every_field_of_a_specification_has_a_test_of_its_bound() -> None:
    unbounded = {
        "emergency",
        "land",
        "scope_shared",
        "reviews",
        "review_by",
        "approval",
        "on_quota",
        "repeats",
    }

    assert set(TaskSpec.__struct_fields__) == set(BAD) | unbounded


@pytest.mark.parametrize("count", [0, limits.SUBMIT_TASKS_MAX + 1])
def test_a_submit_has_some_tasks_and_not_too_many(count: int) -> None:
    with pytest.raises(InvalidInput, match="tasks"):
        Pool().submit(*[PLAIN] * count)


def test_a_command_is_as_good_as_a_prompt() -> None:
    assert Pool().submit(TaskSpec(title="t", command=("true",)))


def test_tasks_refer_to_each_other_by_name_in_any_order() -> None:
    world = Pool()

    second, first = world.submit(
        replace(PLAIN, ref="b", depends_on=(Dependency("a"),)), replace(PLAIN, ref="a")
    )

    assert world.task(second).state is TaskState.WAITING
    assert world.body(second).spec.depends_on == (Dependency(first),)
    assert (world.body(first).spec.ref, world.body(second).spec.ref) == (None, None)


@pytest.mark.parametrize(
    ("needs", "cycle"),
    [
        ({"a": ["a"]}, "a -> a"),
        ({"a": ["b"], "b": ["a"]}, "a -> b -> a"),
        ({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}, "a -> b -> c -> a"),
    ],
)
def test_a_cycle_is_refused_and_named(needs: dict[str, list[str]], cycle: str) -> None:
    specs = [
        replace(PLAIN, ref=name, depends_on=tuple(map(Dependency, on)))
        for name, on in needs.items()
    ]

    with pytest.raises(InvalidInput, match=f": {cycle}$"):
        Pool().submit(*specs)


def test_a_diamond_is_no_cycle() -> None:
    world = Pool()

    tasks = world.submit(
        replace(PLAIN, ref="a"),
        replace(PLAIN, ref="b", depends_on=(Dependency("a"),)),
        replace(PLAIN, ref="c", depends_on=(Dependency("a"),)),
        replace(PLAIN, ref="d", depends_on=(Dependency("b"), Dependency("c"))),
    )

    assert len(tasks) == 4


def test_a_chain_is_bounded() -> None:
    def chain(length: int) -> list[TaskSpec]:
        return [
            replace(PLAIN, ref=f"r{n}", depends_on=(Dependency(f"r{n - 1}"),) if n else ())
            for n in range(length)
        ]

    assert Pool().submit(*chain(limits.DEPTH_MAX))
    with pytest.raises(InvalidInput, match="chain"):
        Pool().submit(*chain(limits.DEPTH_MAX + 1))


def test_two_tasks_of_one_submit_cannot_have_one_name() -> None:
    with pytest.raises(InvalidInput, match="names two tasks"):
        Pool().submit(replace(PLAIN, ref="a"), replace(PLAIN, ref="a"))


def test_a_submit_is_all_or_nothing() -> None:
    world = Pool()
    world.machine("m1")
    before = dict(world.rows)

    with pytest.raises(NotFound):
        world.submit(PLAIN, replace(PLAIN, depends_on=(Dependency("none"),)))

    assert world.rows == before
    assert world.pushed() == []


def test_a_unique_key_is_taken_while_its_task_lives() -> None:
    world = Pool()
    (task,) = world.submit(replace(PLAIN, unique_key="nightly"))
    for specs in ([replace(PLAIN, unique_key="nightly")], [replace(PLAIN, unique_key="u")] * 2):
        with pytest.raises(Conflict, match="unique key"):
            world.submit(*specs)

    world.restart()
    with pytest.raises(Conflict, match=task):
        world.submit(replace(PLAIN, unique_key="nightly"))
    world.ask(facts.Cancel(task))

    assert world.submit(replace(PLAIN, unique_key="nightly"))


def test_a_dependency_that_has_succeeded_is_met_and_gives_its_commit() -> None:
    world = Pool()
    first = world.running()
    world.finish(first)

    (second,) = world.submit(replace(PLAIN, depends_on=(Dependency(first),)))

    assert world.pushed(second)[0].inputs == ("c" * 40,)


@pytest.mark.parametrize("condition", list(Condition))
def test_a_dependency_that_has_failed_is_met_only_for_any_end(condition: Condition) -> None:
    world = Pool()
    first = world.running(failures_max=1)
    world.finish(first, failed())
    spec = replace(PLAIN, depends_on=(Dependency(first, condition),))

    if condition is Condition.SUCCESS:
        with pytest.raises(InvalidInput, match="failed; retry it first"):
            world.submit(spec)
    else:
        assert world.task(world.submit(spec)[0]).state is TaskState.ASSIGNED


def test_nobody_depends_on_another_projects_task() -> None:
    world = Pool()
    (task,) = world.submit(PLAIN)

    with pytest.raises(NotFound):
        world.ask(facts.Submit((replace(PLAIN, depends_on=(Dependency(task),)),)), STRANGER)


def test_a_dependency_that_is_named_twice_counts_once() -> None:
    world = Pool()
    first = world.running()

    (second,) = world.submit(replace(PLAIN, depends_on=(Dependency(first), Dependency(first))))
    world.finish(first)

    assert world.task(second).state is TaskState.ASSIGNED


def test_a_task_that_no_agent_could_run_is_accepted_and_named() -> None:
    world = Pool()
    world.machine("m1")

    reply = world.ask(facts.Submit((PLAIN, replace(PLAIN, needs=("gpu",)))), person("ann"))

    assert isinstance(reply, Submitted)
    assert reply.unschedulable == (reply.tasks[1],)


def test_a_start_time_that_has_passed_is_no_wait() -> None:
    world = Pool()

    (task,) = world.submit(replace(PLAIN, not_before=WallTime(1)))

    assert world.task(task).state is TaskState.QUEUED


def test_rows_of_dependencies_are_wanted_only_if_they_are_not_at_hand() -> None:
    world = Pool()
    (live,) = world.submit(PLAIN)
    spec = replace(
        PLAIN, ref="r", depends_on=(Dependency(live), Dependency("r"), Dependency("old"))
    )

    body = facts.Submit((spec,))
    wants = intake.wanted(world.view, facts.Fact(body=body), body)

    assert wants == [("task", TaskId("old"))]
