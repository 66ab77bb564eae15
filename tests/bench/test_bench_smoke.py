"""Every benchmark in its smallest form, so that none of them rots."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import (
    backup,
    channel,
    compiled,
    floors,
    idle,
    mailbox,
    plot,
    report,
    scale,
    scenarios,
    versions,
)
from bench.__main__ import TINY, save

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.xdist_group("bench")


def test_lifecycles_are_counted_and_cost_cpu() -> None:
    (row,) = scenarios.lifecycles((2,), rounds=1, seconds=0.1, say=lambda _line: None)

    assert row["per_s"] > 0
    assert row["cpu_us"] > 0


def test_versions_of_the_hub_work_in_turns() -> None:
    source = ROOT / "src"

    rows = list(versions.measure([source], workers=2, rounds=1, seconds=0.05))

    assert [tree for tree, _ in rows] == [source]
    assert rows[0][1]["per_s"] > 0


def test_every_module_that_would_be_compiled_exists() -> None:
    core = ROOT / "src" / compiled.PACKAGE / "core"

    assert set(compiled.MODULES) <= {path.stem for path in core.glob("*.py")}


def test_every_dispatch_of_a_paced_client_is_timed() -> None:
    row = scenarios.dispatch(workers=2, per_s=100, count=10)

    assert row["count"] == 10
    assert 0 < row["min_ms"] <= row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]


def test_idle_machines_stay_connected_and_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "SETTLE_S", 0.1)

    (row,) = idle.measure((3,), seconds=0.1)

    assert row["alive_at_end"] == 3


def test_steady_work_is_counted_alone_and_beside_a_copy() -> None:
    found = backup.measure(300, per_s=20.0, seconds=0.1, rounds=1)

    assert found["database_mib"] > 0
    assert found["throughput_beside"] > 0
    assert found["longest_silence_ms"] > 0


async def test_acts_of_a_small_and_a_large_mailbox_are_compared() -> None:
    rows = await mailbox.measure((120, 240), acts=2)

    assert [row["act"] for row in rows] == ["page", "send", "ack"]
    assert all(cost > 0 for row in rows for cost in row["us"].values())


def test_every_post_reaches_every_reader_of_a_channel() -> None:
    row = channel.measure(channel.TINY)

    assert row["delivered"] == channel.TINY.readers * channel.TINY.posts
    assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert "1,000 ms" in report.terminal({"channel": row, "floors": floors.floors(rounds=20)})


def test_a_queue_keeps_its_length_under_work() -> None:
    # More than both workers can do in that time, however seldom the submitter gets a core.
    found = scenarios.depth((50, 3_000), workers=2, rounds=1, seconds=0.3, say=lambda _line: None)

    assert [row["queued"] for row in found["rows"]] == [50, 3_000]
    assert found["rows"][1]["queued_at_end"] > 100
    assert found["throughput_ratio"] > 0


def test_a_run_is_shown_as_text_page_and_picture(tmp_path: Path) -> None:
    rate = {"per_s": 5.0, "per_s_min": 4.0, "per_s_max": 6.0, "cpu_us": 100.0, "hub_cores": 0.5}
    rate |= {"client_cpu_us": 90.0, "machine_cpu_us": 80.0}
    queue = {"queued": 10, "bytes_each": 9.0, "submits_per_s": 7.0, **rate}
    found = {
        "date": "2026-11-22 10:00 UTC",
        "short_slices": False,
        "machine": floors.machine(),
        "floors": floors.floors(rounds=20),
        "lifecycles": [{"workers": 16, **rate}],
        "depth": {"rows": [queue], "throughput_ratio": 1.0, "bytes_each_marginal": 9.0},
        "load_average_after": 0.1,
    }

    paths = save(found, tmp_path)

    assert [path.suffix for path in paths] == [".json", ".md", ".svg"]
    assert "| RAM per queued task | 9 B | <= 250 B | yes |" in report.markdown(found, None)
    assert "durable lifecycles/s, W=16" in report.terminal(found)
    assert plot.svg(found).count("<rect") == 3


@pytest.mark.parametrize(
    "words",
    [
        ["store.py", "--commits", "64", "--tasks", "1000", "--batch", "16"],
        ["lifecycle.py", "--store", "memory", "--agents", "2", "--seconds", "0.2"],
    ],
)
def test_the_finer_instruments_run(words: list[str]) -> None:
    script, *options = words

    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=50,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_smallest_plan_has_every_part() -> None:
    assert TINY.workers
    assert TINY.machines
    assert TINY.depths
    assert TINY.sizes.stored


def test_what_the_core_costs_is_found_at_all_sizes() -> None:
    found = scale.measure(TINY.sizes)

    assert [row["queued"] for row in found["events"]["rows"]] == [100, 400, 400]
    assert found["run"]["tasks"] == 200
    assert found["load"]["queued"] == 300
    assert len(list(report.targets({"scale": found}))) == 3
    assert "300" in report.terminal({"scale": found, "floors": floors.floors(rounds=20)})
