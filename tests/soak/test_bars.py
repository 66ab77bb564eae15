"""Bars are held against figures, and figures come from samples by rules that can be stated."""

import json
from pathlib import Path

import pytest

from agentcom.testing.soak import bars, day
from agentcom.testing.soak.bars import Outcome
from agentcom.testing.soak.day import Sample


def sample(tasks: int, private_bytes: int = 0, disk_bytes: int = 0) -> Sample:
    return Sample(tasks=tasks, private_bytes=private_bytes, disk_bytes=disk_bytes)


def test_a_bar_that_is_missed_is_shown_and_saved_as_missed(tmp_path: Path) -> None:
    outcome = Outcome("storm")
    outcome.exactly("machines back", 4_999, 5_000)
    outcome.at_most("the last is back after", 3.25, 60.0, "s")
    outcome.none("refused", ["box: not known"])

    bars.save(tmp_path / "soak.json", [outcome], cores=2)

    lines = bars.table([outcome]).splitlines()
    assert [line.split()[-1] for line in lines] == ["MISSED", "ok", "MISSED"]
    assert "1: box: not known" in lines[2]
    saved = json.loads((tmp_path / "soak.json").read_text("utf-8"))
    assert [bar["holds"] for bar in saved["parts"][0]["bars"]] == [False, True, False]


def test_only_measures_depend_on_how_busy_the_computer_is() -> None:
    outcome = Outcome("day")
    outcome.exactly("ended twice", 0, 0)
    outcome.at_least("accepted", 10, 9)
    outcome.none("lost", [])
    outcome.at_most("event loop late", 0.1, 0.2, "s")

    assert [bar.counted for bar in outcome.bars] == [True, True, True, False]


@pytest.mark.parametrize(("part", "bound"), [(0.5, 0.1), (0.99, 0.5), (1.0, 5.0)])
def test_a_histogram_bounds_a_part_of_what_it_saw(part: float, bound: float) -> None:
    histogram = {0.1: 90, 0.2: 0, 0.5: 9, 5.0: 1, float("inf"): 0}

    assert bars.bound_of(histogram, part) == bound


def test_an_empty_histogram_saw_nothing_late() -> None:
    assert bars.bound_of({0.1: 0, 0.5: 0}) == 0.0


def test_one_peak_is_no_trend() -> None:
    level = [(float(x), 100.0) for x in range(20)]

    assert bars.slope([*level[:10], (9.5, 5_000.0), *level[10:]]) == 0.0


def test_memory_that_grows_with_each_task_is_found_after_the_warm_up() -> None:
    warm_up = [sample(tasks, 10 * tasks) for tasks in range(0, 300, 30)]
    leaking = [sample(tasks, 3_000 + 7 * (tasks - 300)) for tasks in range(300, 930, 30)]
    level = [sample(tasks, 3_000) for tasks in range(300, 930, 30)]

    assert day.growth([*warm_up, *leaking]) == 7.0
    assert day.growth([*warm_up, *level]) == 0.0


def test_disk_that_grows_faster_in_the_end_is_found() -> None:
    steady = [sample(tasks, disk_bytes=3 * tasks) for tasks in range(0, 91, 10)]
    worse = [sample(tasks, disk_bytes=tasks * tasks) for tasks in range(0, 91, 10)]

    assert day.disk_per_task(steady) == (3.0, 3.0)
    first, last = day.disk_per_task(worse)
    assert last > 4 * first


def test_a_day_has_all_its_tasks_and_few_of_them_at_night() -> None:
    arriving = day.arrivals(100_000)

    assert len(arriving) == day.QUARTERS
    assert abs(sum(arriving) - 100_000) < day.QUARTERS
    assert max(arriving) > 5 * arriving[8]
