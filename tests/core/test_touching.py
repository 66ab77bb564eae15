"""Attempts that change the same files: both are told, once."""

from collections.abc import Sequence

import pytest

from agentcom.core import facts, touching
from agentcom.core.effects import Notify
from agentcom.model import limits
from agentcom.model.event import EventKind
from agentcom.model.ids import TaskId
from agentcom.model.result import Clash
from agentcom.model.task import TaskSpec
from agentcom.testing.world import agent, machine
from tests.core.acts import Pool, done, failed

REPO = "https://git.example/r.git"


def fleet(*, slots: int = 8) -> Pool:
    world = Pool()
    for name in ("m1", "m2"):
        world.machine(name, agent(f"a-{name}", slots=slots))
    return world


def working(world: Pool, **fields: object) -> TaskId:
    (task,) = world.submit(TaskSpec(title="t", prompt="p", **{"repo": REPO, **fields}))  # type: ignore[arg-type]  # as a task has them
    world.accept(task)
    return task


def save(world: Pool, task: TaskId, *paths: str, count: int = 0) -> Sequence[Notify]:
    row = world.task(task)
    body = facts.Checkpointed(
        task, row.fence, "k" * 40, touched=paths, touched_count=count or len(paths)
    )
    return [e for e in world.tell(body, machine(row.machine or "")) if isinstance(e, Notify)]


def told(world: Pool, task: TaskId) -> list[str]:
    feed = [a.record for a in world.feed if a.record.kind is EventKind.OVERLAP]
    return [event.detail or "" for event in feed if event.task == task]


def why(world: Pool, task: TaskId) -> str:
    return world.ask(facts.Explain(task)).summary  # type: ignore[union-attr]  # an explanation


def test_two_attempts_that_change_the_same_file_are_both_told() -> None:
    world = fleet()
    one, two = working(world), working(world)
    save(world, one, "src/a.py", "src/b.py")

    notices = save(world, two, "docs/x.md", "src/a.py")

    assert {n.task: n.text for n in notices} == {
        one: f"also touches src/a.py: task {two}",
        two: f"also touches src/a.py: task {one}",
    }
    for notice in notices:
        row = world.task(notice.task)
        assert (notice.machine, notice.fence) == (row.machine, row.fence)
    assert told(world, one) == [f"also touches src/a.py: task {two}"]
    assert told(world, two) == [f"also touches src/a.py: task {one}"]
    assert f"2 paths are changed so far; also touches src/a.py: task {two}" in why(world, one)
    assert f"also touches src/a.py: task {one}" in why(world, two)


def test_a_pair_is_told_once_per_attempt_whoever_saves_next() -> None:
    world = fleet()
    one, two = working(world), working(world)
    save(world, one, "a")
    assert save(world, two, "a")

    again = [*save(world, two, "a", "b"), *save(world, one, "a", "b")]

    assert again == []
    assert len(told(world, one)) == len(told(world, two)) == 1


def test_a_path_outside_of_ones_own_claim_that_another_claims_is_told() -> None:
    world = fleet()
    claimer = working(world, scope=("src/**",))
    bold = working(world, scope=("docs/**",))

    notices = save(world, bold, "docs/x.md", "src/a.py")

    assert {n.task: n.text for n in notices} == {
        bold: f"also claims src/a.py: task {claimer}",
        claimer: f"also touches src/a.py: task {bold}",
    }
    assert f"also touches src/a.py: task {bold}" in why(world, claimer)
    assert "1 path" not in why(world, claimer)


def test_what_was_declared_is_nothing_to_tell() -> None:
    world = fleet()
    working(world, scope=("src/**",))
    reader = working(world, scope=("lib/**",), scope_shared=True)
    tidy = working(world, scope=("docs/**",))

    assert save(world, tidy, "docs/x.md") == []
    assert save(world, reader, "docs/x.md") != [], "it said that it only reads"
    assert save(world, tidy, "lib/x.py") == [], "readers do not mind"


def test_other_repositories_and_tasks_without_one_are_apart() -> None:
    world = fleet()
    one = working(world)
    other = working(world, repo="https://git.example/other.git")
    scratch = working(world, repo=None)
    save(world, one, "a")

    assert save(world, other, "a") == []
    assert save(world, scratch, "a") == []
    assert scratch not in world.view.gates.touched


def test_an_attempt_that_ended_is_forgotten_and_its_successor_told_anew() -> None:
    world = fleet()
    one, two = working(world), working(world)
    save(world, one, "a")
    save(world, two, "a")

    world.finish(one, failed())
    assert why(world, two).endswith("1 path is changed so far")
    assert one not in world.view.gates.touched
    world.advance(limits.RETRY_BASE_MS)
    world.accept(one)

    assert len(save(world, one, "a")) == 2
    world.finish(two, done())
    assert list(world.view.gates.touched) == [one]


def test_a_restarted_hub_learns_it_from_the_next_checkpoint() -> None:
    world = fleet()
    one, two = working(world), working(world)
    save(world, one, "a")
    world.restart()
    assert world.view.gates.touched == {}

    save(world, one, "a")
    assert save(world, two, "a")


def test_a_batch_that_was_not_written_leaves_nothing_behind() -> None:
    world = fleet()
    one, two = working(world), working(world)
    save(world, one, "a")
    before = dict(world.view.gates.touched)
    row = world.task(two)
    body = facts.Checkpointed(two, row.fence, "k" * 40, touched=("a",))

    world.decide([facts.Fact(body=body, actor=machine(row.machine or ""))], commit=False)

    assert world.view.gates.touched == before
    assert len(save(world, two, "a")) == 2


def test_a_change_that_was_taken_back_is_not_told() -> None:
    world = fleet()
    one, two = working(world), working(world)
    save(world, one, "a")
    save(world, one)

    assert save(world, two, "a") == []
    assert why(world, one).endswith("0 paths are changed so far")


def test_only_so_many_paths_are_named_and_none_can_break_a_line() -> None:
    world = fleet()
    one, two = working(world), working(world)
    paths = ["a\nb\x1b", "x" * 300, *(f"p{n}" for n in range(10))]
    save(world, one, *paths)

    text = save(world, two, *paths)[0].text

    assert text.startswith("also touches a\ufffdb\ufffd, " + "x" * 119 + "…, p0, p1, p2 and 7 more")
    assert text.isprintable()
    assert len(text) <= limits.NOTICE_CHARS


def test_what_is_remembered_of_one_attempt_is_bounded() -> None:
    world = fleet()
    one = working(world)
    save(world, one, "", "y" * 501, *(f"p{n}" for n in range(300)), count=70_000)

    found = world.view.gates.touched[one]
    assert (len(found.paths), found.changed) == (limits.TOUCHED_MAX - 2, 70_000)
    save(world, one, *("z" * 499 for _ in range(100)))
    kept = world.view.gates.touched[one].paths
    assert sum(map(len, kept)) <= limits.TOUCHED_BYTES


def test_how_many_attempts_are_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TOUCHERS_MAX", 2)
    world = fleet()
    tasks = [working(world) for _ in range(3)]
    for n, task in enumerate(tasks):
        save(world, task, str(n))

    assert list(world.view.gates.touched) == tasks[1:]


def test_how_many_others_one_attempt_is_told_of_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "OVERLAPS_MAX", 1)
    world = fleet()
    tasks = [working(world) for _ in range(3)]
    save(world, tasks[0], "a")
    save(world, tasks[1], "b")

    assert len(save(world, tasks[2], "a", "b")) == 2
    assert len(touching.words(world.view, world.task(tasks[2]))) == 2


def test_comparing_with_claims_ends_when_it_has_cost_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = fleet()
    working(world, scope=("src/**",))
    bold = working(world, scope=("docs/**",))

    monkeypatch.setattr(limits, "OVERLAP_CELLS", 60)  # enough for its own claim alone
    assert save(world, bold, "src/a.py") == []
    monkeypatch.setattr(limits, "OVERLAP_CELLS", 10)
    assert save(world, bold, "src/a.py") == []
    monkeypatch.setattr(limits, "OVERLAP_CELLS", 1_000)
    assert len(save(world, bold, "src/a.py")) == 2


def clash(world: Pool, task: TaskId, other: TaskId, *paths: str) -> Sequence[Notify]:
    body = facts.Checkpointed(
        task, world.task(task).fence, "k" * 40, touched=(task,), clashes=(Clash(other, paths),)
    )
    found = world.tell(body, machine(world.task(task).machine or ""))
    return [effect for effect in found if isinstance(effect, Notify)]


def test_work_in_conflict_is_told_to_both_whoever_found_it() -> None:
    world = fleet()
    one, two = working(world), working(world)
    save(world, one, "a")

    notices = clash(world, two, one, "src/a.py", "b")

    assert {n.task: n.text for n in notices} == {
        one: f"would conflict in src/a.py, b: task {two}",
        two: f"would conflict in src/a.py, b: task {one}",
    }
    assert f"would conflict in src/a.py, b: task {two}" in why(world, one)
    assert f"would conflict in src/a.py, b: task {one}" in why(world, two)
    assert clash(world, one, two, "src/a.py", "b") == []


def test_a_conflict_is_told_again_when_it_changes_and_when_it_is_over() -> None:
    world = fleet()
    one, two = working(world), working(world)
    save(world, one, "a")
    clash(world, two, one, "a")
    assert clash(world, two, one, "a") == []

    first, _ = clash(world, two, one, "a", "b")
    assert first.text.startswith("would conflict in a, b")
    over = clash(world, one, two)

    assert {n.text for n in over} == {
        f"no longer in conflict with what it made: task {one}",
        f"no longer in conflict with what it made: task {two}",
    }
    assert "conflict" not in why(world, one)


def test_a_conflict_with_what_does_not_run_or_is_elsewhere_is_nothing_to_tell() -> None:
    world = fleet()
    one, two = working(world), working(world)
    other = working(world, repo="https://git.example/other.git")
    save(world, other, "a")
    save(world, one, "a")
    world.finish(one, done())

    assert clash(world, two, one, "a") == []
    assert clash(world, two, other, "a") == []
    assert clash(world, two, TaskId("none"), "a") == []


def test_a_conflict_of_an_attempt_before_is_told_anew() -> None:
    world = fleet()
    one, two = working(world), working(world)
    save(world, one, "a")
    clash(world, two, one, "a")
    world.finish(two, failed())
    world.advance(limits.RETRY_BASE_MS)
    world.accept(two)

    assert len(clash(world, two, one, "a")) == 2
