import os
from pathlib import Path

import msgspec
import pytest

from agentcom.model.ids import WallTime
from agentcom.model.result import Landing, LandStatus, Result, ResultStatus
from agentcom.model.task import TaskSpec
from agentcom.sidecar import housekeeping, processes
from agentcom.sidecar.config import Home
from agentcom.sidecar.machine_values import Record
from tests.sidecar.git_origin import Origin
from tests.sidecar.machine_world import DONE, LANDS
from tests.sidecar.sidecar_world import WRITE, attempts, config, prompt, record

NOW = WallTime(2_000_000_000_000)
CONFLICT = Landing(status=LandStatus.CONFLICT)
FAILED = Result(status=ResultStatus.FAILED)


async def finished(tmp_path: Path) -> tuple[Home, Record, Path]:
    origin = Origin(tmp_path / "forge")
    machine = config(tmp_path)
    made = record(TaskSpec(title="A task", prompt=prompt(WRITE), repo=origin.url))
    runner, told = attempts(machine)
    await runner.run(made, adopt=False)
    path = machine.home.repositories / "worktrees" / "t1"
    assert path.is_dir()
    return machine.home, msgspec.structs.replace(made, result=told.result), path


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_the_folder_of_a_good_end_goes(tmp_path: Path) -> None:
    home, record, path = await finished(tmp_path)

    await housekeeping.after(home, record, NOW)

    assert not path.exists()


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_the_folder_of_a_failed_task_stays(tmp_path: Path) -> None:
    home, record, path = await finished(tmp_path)

    await housekeeping.after(home, msgspec.structs.replace(record, result=FAILED), NOW)

    assert path.exists()


@pytest.mark.parametrize(
    ("result", "landing", "done"),
    [
        (DONE, None, True),
        (FAILED, None, False),
        (LANDS, None, False),
        (LANDS, Landing(status=LandStatus.LANDED), True),
        (LANDS, CONFLICT, False),
        (msgspec.structs.replace(DONE, needs_person=("a test",)), None, False),
        (None, None, False),
    ],
)
def test_only_what_needs_no_more_work_is_done(
    result: Result | None, landing: Landing | None, *, done: bool
) -> None:
    made = record(TaskSpec(title="A task"))

    ended = msgspec.structs.replace(made, result=result, landing=landing)

    assert housekeeping._done(ended) is done


def test_logs_of_old_attempts_go_and_held_ones_stay(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for path in (home.attempt("t1.7.1"), home.attempt("t2.7.1"), home.scratch("t2")):
        path.mkdir(parents=True)
        os.utime(path, (1, 1))
    home.attempt("t3.7.1").mkdir()

    removed = housekeeping.prune_folders(home, {"t2.7.1"}, WallTime(8 * 86_400_000))

    assert removed == 1
    assert not home.attempt("t1.7.1").exists()
    assert home.scratch("t2").exists()
