"""Trial merges with the work of others, as far as origin has it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentcom.model.ids import AgentId, Fence, TaskId
from agentcom.model.result import Clash
from agentcom.model.task import TaskSpec
from agentcom.sidecar import git, saving, trees, trying, workspace
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.repositories import Repositories
from agentcom.sidecar.trees import Worktree
from tests.sidecar.git_origin import ADA, BOB, FIRST, SECOND, Origin, prepare
from tests.sidecar.sidecar_world import Told, record

ONE, TWO = TaskId("t1"), TaskId("t2")


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    made = Origin(tmp_path / "forge")
    made.push({"shop.py": "".join(f"line {n}\n" for n in range(20))})
    return made


class Two:
    """Two machines with a task each, in one repository."""

    def __init__(self, root: Path, origin: Origin) -> None:
        self.root, self.origin = root, origin
        self.trees: dict[TaskId, Worktree] = {}

    async def begin(self, task: TaskId, agent: AgentId, fence: Fence = FIRST) -> Worktree:
        fleet = Repositories(self.root / agent)
        self.trees[task] = await prepare(fleet, self.origin, fence, task=task, agent=agent)
        return self.trees[task]

    async def change(self, task: TaskId, line: int, text: str) -> tuple[Clash, ...]:
        """Change one line, save, and return what is told of it."""
        place = self.trees[task].path / "shop.py"
        lines = place.read_text().splitlines()
        lines[line] = text
        place.write_text("".join(f"{one}\n" for one in lines))
        return await self.save(task)

    async def save(self, task: TaskId) -> tuple[Clash, ...]:
        saved = await workspace.checkpoint(self.trees[task])
        commit = saved.commit if saved is not None else await workspace.saved(self.trees[task])
        assert commit is not None
        return await trying.clashes(self.trees[task], commit)


@pytest.fixture
async def two(tmp_path: Path, origin: Origin) -> Two:
    made = Two(tmp_path, origin)
    await made.begin(ONE, ADA)
    await made.begin(TWO, BOB)
    return made


async def test_a_conflict_is_told_with_its_files_once(two: Two) -> None:
    assert await two.change(ONE, 3, "mine") == ()
    assert await two.change(TWO, 3, "no, mine") == (Clash(ONE, ("shop.py",)),)

    assert await two.change(TWO, 15, "more") == ()
    assert await two.save(TWO) == ()
    assert await two.change(ONE, 16, "more") == (Clash(TWO, ("shop.py",)),)


async def test_changes_of_the_same_file_that_go_together_are_no_conflict(two: Two) -> None:
    await two.change(ONE, 1, "mine")

    assert await two.change(TWO, 18, "mine") == ()


async def test_a_conflict_that_is_over_is_told_too(two: Two) -> None:
    await two.change(ONE, 3, "mine")
    await two.change(TWO, 3, "no, mine")

    assert await two.change(TWO, 3, "line 3") == (Clash(ONE, ()),)


async def test_of_each_task_only_the_newest_attempt_is_tried(two: Two) -> None:
    await two.change(ONE, 3, "mine")
    await two.begin(ONE, ADA, fence=SECOND)
    await two.change(ONE, 9, "elsewhere")

    assert await two.change(TWO, 3, "no, mine") == ()


async def test_nothing_is_asked_twice_and_nothing_merged_in_earnest(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two.change(ONE, 3, "mine")
    await two.change(TWO, 3, "no, mine")
    asked: list[str] = []
    run = git._run_once

    async def noted(args: Sequence[str], cwd: Path, **fields: Any) -> git.GitResult:
        asked.append(args[0])
        return await run(args, cwd, **fields)

    monkeypatch.setattr(git, "_run_once", noted)
    commit = await workspace.saved(two.trees[TWO])
    assert commit is not None

    assert await trying.clashes(two.trees[TWO], commit) == ()
    assert asked == ["ls-remote", "cat-file"]
    assert trees.load(two.root / BOB, TWO) == two.trees[TWO]


async def test_so_many_others_are_tried_and_no_more(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trying, "OTHERS_MAX", 1)
    await two.change(ONE, 3, "mine")
    await two.begin(TaskId("t3"), ADA)
    await two.change(TaskId("t3"), 9, "elsewhere")

    assert await two.change(TWO, 3, "no, mine") == ()  # t3 is younger than t1


async def test_what_was_left_out_of_time_is_tried_the_next_time(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two.change(ONE, 3, "mine")
    monkeypatch.setattr(trying, "TRY_S_MAX", -1.0)
    assert await two.change(TWO, 3, "no, mine") == ()
    monkeypatch.undo()

    assert await two.save(TWO) == (Clash(ONE, ("shop.py",)),)


async def test_what_was_found_is_told_with_the_checkpoint(two: Two) -> None:
    await two.change(ONE, 3, "mine")
    shop = two.trees[TWO].path / "shop.py"
    shop.write_text(shop.read_text().replace("line 3\n", "no, mine\n"))
    told = Told()
    made = record(TaskSpec(title="t", repo=two.origin.url))

    commit = await saving.checkpoint(made, two.trees[TWO], "s", told.tell)

    first, second = told.all(values.Saved)
    assert (first.commit, first.clashes) == (commit, ())  # type: ignore[union-attr]  # of a kind
    assert second == msgspec.structs.replace(first, clashes=(Clash(ONE, ("shop.py",)),))


async def test_others_that_cannot_be_asked_for_cost_no_checkpoint(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> tuple[Clash, ...]:
        raise git.GitFailed("ls-remote", 128, "connection refused")

    monkeypatch.setattr(trying, "clashes", away)
    (two.trees[ONE].path / "work").write_text("x")
    told = Told()

    made = record(TaskSpec(title="t", repo=two.origin.url))

    assert await saving.checkpoint(made, two.trees[ONE], None, told.tell) is not None
    assert len(told.all(values.Saved)) == 1
