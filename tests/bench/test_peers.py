"""The parts of the comparison with peers that need no peer: figures, words, ports."""

import socket
from functools import cache
from typing import Any

import pytest

from bench import floors, sampled, slices
from bench.peers import picture, report, servers
from bench.peers.job import Results
from bench.peers.report import CELERY, DASK, HUB, NATS_ALWAYS, PROCRASTINATE, Round
from bench.report import aligned


def a_round(per_s: float, *latencies: float) -> Round:
    return Round(per_s, 100.0, latencies or (1.0,))


@cache
def floor() -> dict[str, float]:
    return floors.floors(rounds=20)


def found(**systems: Any) -> dict[str, Any]:
    """Return what a run with a few rounds saves; a system without rounds did not run."""
    row = {"per_s": 10.0, "count": 5, "cpu_us": 90.0, "latencies_ms": [1.0, 2.0, 3.0]}
    fast = row | {"per_s": 300.0}
    return {
        "date": "2026-11-28 10:00 UTC",
        "short_slices": True,
        "machine": floors.machine(),
        "floors": floor(),
        "load_average_after": 0.5,
        "slots": 16,
        "rounds": 2,
        "systems": {
            HUB: {"version": "agentcom 1", "rounds": [fast, fast], "why_not": ""},
            PROCRASTINATE: {"version": "p 3", "rounds": [row, row], "why_not": ""},
            CELERY: {"version": "c 5", "rounds": [], "why_not": "no redis-server"},
        }
        | systems,
    }


def test_a_summary_has_the_median_rate_and_the_times_of_all_rounds() -> None:
    got = report.summary([a_round(10, 1, 2), a_round(40, 3, 4), a_round(20, 5, 90)])

    assert (got.per_s, got.per_s_min, got.per_s_max) == (20, 10, 40)
    assert (got.p50_ms, got.p99_ms) == (4, 90)
    assert (got.rounds, got.dispatches) == (3, 6)


def test_a_share_of_values_is_found_by_the_nearest_rank() -> None:
    values = [float(number) for number in range(100, 0, -1)]

    assert report.part(values, 0.5) == 51
    assert report.part(values, 0.99) == 100
    assert report.part([7.0], 0.99) == 7.0


def test_rates_are_compared_within_a_round_and_not_across() -> None:
    # Each round the machine is ten times slower, for both: the multiple stays what it is.
    ours = [a_round(1_000), a_round(100), a_round(10)]
    theirs = [a_round(500), a_round(50), a_round(4)]

    assert report.ratios(ours, theirs) == (2.0, 2.0, 2.5)


def test_a_peer_that_missed_rounds_is_compared_in_those_that_it_has() -> None:
    assert report.ratios([a_round(10), a_round(30)], [a_round(5)]) == (2.0, 2.0, 2.0)


def test_targets_say_what_was_met_and_what_was_not() -> None:
    rounds = {
        HUB: [a_round(600, 1.5)],
        NATS_ALWAYS: [a_round(50, 1.4)],
        DASK: [a_round(100, 20.0)],
        PROCRASTINATE: [a_round(10, 9.0)],
    }

    met = {target.name: target.met for target in report.targets(rounds)}

    assert met == {
        f"lifecycles/s against {PROCRASTINATE}": True,
        f"lifecycles/s against {DASK}": False,
        f"lifecycles/s against {NATS_ALWAYS}": True,
        "dispatch p50": True,
        f"dispatch p50 against {NATS_ALWAYS}": True,
        f"dispatch p50 against {PROCRASTINATE}": True,
        f"dispatch p99 against the best durable peer ({NATS_ALWAYS})": False,
        f"dispatch p99 against {DASK}": False,
    }


def test_without_the_hubs_own_rounds_there_is_nothing_to_compare() -> None:
    assert list(report.targets({DASK: [a_round(100)]})) == []


def test_the_page_names_what_did_not_run() -> None:
    page = report.markdown(found(), "peers.svg")

    assert "- Celery, Redis: no redis-server" in page
    assert "![" in page
    assert "(peers.svg)" in page
    assert "| AgentCom | agentcom 1 | yes | 300 | 300 - 300 |" in page
    assert "| 10 | 10 - 10 | 30.0 (30.0 - 30.0) | 90 us |" in page
    assert slices.words(short=True) in page


def test_the_table_begins_with_the_fastest() -> None:
    table = aligned(report.tables(found()))

    assert table.index(HUB + " ") < table.index(PROCRASTINATE)
    assert "Celery" not in table


def test_the_picture_has_two_bars_for_each_system() -> None:
    drawn = picture.svg(report.rounds_of(found()))

    assert drawn.count("<rect") == 1 + 2 * 2  # the paper, and the bars
    assert drawn.count(HUB) == 1


def test_free_ports_are_different_and_can_be_listened_on() -> None:
    ports = servers.free_ports(20)

    assert len(set(ports)) == 20
    with socket.socket() as one:
        one.bind(("127.0.0.1", ports[0]))


async def test_results_are_asked_for_until_enough_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.peers.job.POLL_S", 0)
    asked: list[list[str]] = []

    async def look(keys: list[str]) -> list[str | None]:
        asked.append(keys)
        return ["done" if key == "a" or len(asked) > 1 else None for key in keys]

    results = Results(look)
    results.expect("a")
    results.expect("b")
    await results.ended(2)

    assert asked == [["a", "b"], ["b"]]


def test_a_figure_is_not_published_without_saying_how_turns_were_taken() -> None:
    assert "the system's" in slices.words(short=False)
    assert "0.5 ms" in slices.words(short=True)


def test_a_profile_counts_the_innermost_part_and_leaves_out_who_waits() -> None:
    raw = (
        "run (agentcom/hub/engine.py:1);place (agentcom/core/turn.py:3) 6\n"
        "run (agentcom/hub/engine.py:1);write (agentcom/store/sqlite_rows.py:9) 3\n"
        "start (threading.py:1);Condition.wait (threading.py:2) 50\n"
    )

    found = list(sampled.stacks(raw))

    assert sampled.by_part(found) == {"deciding": 6, "commit: SQLite, fsync": 3}
    assert sampled.by_function(found)["place (agentcom/core/turn.py"] == 6
