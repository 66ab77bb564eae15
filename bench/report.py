"""Figures as a table for the terminal, as Markdown for the docs, and as JSON for whoever compares.

What is promised stands in `targets`, beside what was measured.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from bench import slices

Row = dict[str, Any]
Found = dict[str, Any]
Table = tuple[str, list[str], list[list[str]]]
"""Title, header, rows."""

KIB_EACH_MAX: Final = 24.0
WORKERS: Final = 16
PER_S_MIN: Final = 6_000.0
P50_MS_MAX: Final = 2.0
DEPTH_RATIO_MIN: Final = 0.9
BYTES_EACH_MAX: Final = 250.0
SCALE_RATIO_MAX: Final = 1.5
REBUILD_S_MAX: Final = 30.0
POST_P99_MS_MAX: Final = 1_000.0
BESIDE_RATIO_MAX: Final = 2.0
_EVENTS: Final = {
    "submit": "submit, all agents at work",
    "ready": "an agent becomes ready, and takes the first task",
    "complete": "a completion, and the agent's next task",
}


_RATE: Final = ("lifecycles/s", "spread", "hub CPU each", "hub's cores")
_FLOORS: Final = (
    ("fdatasync_4k_p50_ms", "fdatasync 4 KiB, back to back, p50, ms", ".2f"),
    ("fdatasync_4k_p99_ms", "fdatasync 4 KiB, back to back, p99, ms", ".2f"),
    ("fdatasync_4k_after_idle_p50_ms", "fdatasync 4 KiB after 20 ms idle, p50, ms", ".2f"),
    ("socketpair_p50_us", "socket pair round trip, busy, p50, us", ".0f"),
    ("socketpair_after_idle_p50_us", "socket pair round trip after 20 ms idle, p50, us", ".0f"),
    ("socketpair_after_idle_p99_us", "socket pair round trip after 20 ms idle, p99, us", ".0f"),
    ("json_decode_us", "decoding 550 B of JSON, a yardstick of the CPU, us", ".2f"),
)


class Target(NamedTuple):
    """One promise and what became of it."""

    name: str
    measured: str
    wanted: str
    met: bool


def targets(found: Found) -> list[Target]:
    """Return the promises that this run says something about."""
    scale = _scale_targets(found["scale"]) if "scale" in found else ()
    crowd = _channel_targets(found["channel"]) if "channel" in found else ()
    return [*_load_targets(found), *_size_targets(found), *crowd, *scale]


def _load_targets(found: Found) -> Iterator[Target]:
    for row in found.get("lifecycles", ()):
        if row["workers"] == WORKERS:
            rate = row["per_s"]
            yield Target(
                f"durable lifecycles/s, W={WORKERS}", f"{rate:,.0f}", ">= 6,000", rate >= PER_S_MIN
            )
    if "dispatch" in found:
        p50 = found["dispatch"]["p50_ms"]
        yield Target("dispatch p50", f"{p50:.2f} ms", "<= 2 ms", p50 <= P50_MS_MAX)


def _size_targets(found: Found) -> Iterator[Target]:
    for row in found.get("idle", ())[-1:]:
        each = row["kib_each"]
        name = f"memory per idle agent, {row['machines']:,} connected"
        yield Target(name, f"{each:.1f} KiB", "<= 24 KiB", each <= KIB_EACH_MAX)
    if "depth" in found:
        rows, ratio = found["depth"]["rows"], found["depth"]["throughput_ratio"]
        name = f"throughput, {rows[-1]['queued']:,} queued to {rows[0]['queued']:,}"
        yield Target(name, f"{ratio:.0%}", ">= 90 %", ratio >= DEPTH_RATIO_MIN)
        each = found["depth"]["bytes_each_marginal"]
        yield Target("RAM per queued task", f"{each:.0f} B", "<= 250 B", each <= BYTES_EACH_MAX)


def _channel_targets(row: Row) -> Iterator[Target]:
    p99, ratio = row["p99_ms"], row["beside_p99_ms"] / row["dispatch_p99_ms"]
    name = f"a post to all of {row['readers']:,} readers, p99"
    yield Target(name, f"{p99:,.0f} ms", "<= 1,000 ms", p99 <= POST_P99_MS_MAX)
    name = "dispatch p99 beside these posts, to that without"
    yield Target(name, f"{ratio:.2f} x", f"<= {BESIDE_RATIO_MAX:g} x", ratio <= BESIDE_RATIO_MAX)


def _scale_targets(found: Found) -> Iterator[Target]:
    rows = found["events"]["rows"]
    for what, of in (("depth", "queued"), ("agents", "agents")):
        ends = f"{max(row[of] for row in rows):,} {of} to {min(row[of] for row in rows):,}"
        worst = max(found["events"]["ratios"][f"{name}_by_{what}"] for name in _EVENTS)
        name = f"CPU of an event in the core, {ends}"
        met = worst <= SCALE_RATIO_MAX
        yield Target(name, f"{worst:.2f} x", f"<= {SCALE_RATIO_MAX:g} x", met)
    load = found["load"]
    took_s = load["scan_s"] + load["load_s"]
    name = f"memory rebuilt from a store with {load['queued']:,} queued"
    yield Target(name, f"{took_s:.1f} s", f"<= {REBUILD_S_MAX:.0f} s", took_s <= REBUILD_S_MAX)


def markdown(found: Found, plot: str | None) -> str:
    """Return the page of one run."""
    floors = found["floors"]
    loads = f"{floors['load_average']:.1f} before, {found['load_average_after']:.1f} after"
    lines = [
        f"# Results of {found['date']}",
        "",
        f"{machine_words(found['machine'])}. How: [method](method.md).",
        "",
        f"Load average {loads}. {_quietness(found)} " + slices.words(short=found["short_slices"]),
    ]
    if plot is not None:
        lines += ["", f"![Lifecycles a second, and what a queue costs]({plot})"]
    for title, header, rows in tables(found):
        lines += ["", f"## {title}", "", *markdown_table(header, rows)]
    return "\n".join(lines) + "\n"


def terminal(found: Found) -> str:
    """Return all tables as aligned text."""
    return aligned(tables(found))


def aligned(shown: Iterable[Table]) -> str:
    """Return tables as text with columns."""
    parts = []
    for title, header, rows in shown:
        cells = [header, *rows]
        widths = [max(len(row[n]) for row in cells) for n in range(len(header))]
        text = [
            "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in cells
        ]
        parts.append("\n".join([title, *(line.rstrip() for line in text)]))
    return "\n\n".join(parts)


def tables(found: Found) -> Iterator[Table]:
    """Yield title, header and rows of each part that was measured."""
    yield _targets_table(found)
    yield floors_table(found["floors"])
    if "lifecycles" in found:
        yield _lifecycles_table(found["lifecycles"])
    if "dispatch" in found:
        yield _dispatch_table(found["dispatch"])
    if "idle" in found:
        yield _idle_table(found["idle"])
    if "channel" in found:
        yield _posts_table(found["channel"])
        yield _beside_table(found["channel"])
    if "depth" in found:
        yield _depth_table(found["depth"])
    if "scale" in found:
        yield _events_table(found["scale"]["events"])
        yield _run_table(found["scale"]["run"])
        yield _load_table(found["scale"]["load"])


def _targets_table(found: Found) -> Table:
    rows = [[t.name, t.measured, t.wanted, "yes" if t.met else "NO"] for t in targets(found)]
    return "Targets", ["figure", "measured", "target", "met"], rows


def floors_table(floors: Row) -> Table:
    """Return what the machine can do at best."""
    rows = [[name, f"{floors[key]:{form}}"] for key, name, form in _FLOORS]
    return "Floors of this machine", ["probe", "result"], rows


def _lifecycles_table(found: list[Row]) -> Table:
    header = ["workers", *_RATE, "client CPU each", "machine CPU each"]
    rows = [
        [
            str(row["workers"]),
            *_rate(row),
            f"{row['client_cpu_us']:.0f} us",
            f"{row['machine_cpu_us']:.0f} us",
        ]
        for row in found
    ]
    return "Durable lifecycles", header, rows


def _rate(row: Row) -> list[str]:
    return [
        f"{row['per_s']:,.0f}",
        f"{row['per_s_min']:,.0f} - {row['per_s_max']:,.0f}",
        f"{row['cpu_us']:.0f} us",
        f"{row['hub_cores']:.2f}",
    ]


def _dispatch_table(row: Row) -> Table:
    title = f"Dispatch at {row['per_s']:.0f} tasks/s, W={row['workers']}, {row['count']} tasks"
    values = [f"{row[name]:.2f} ms" for name in ("min_ms", "p50_ms", "p99_ms", "max_ms")]
    return title, ["min", "p50", "p99", "max"], [values]


def _idle_table(found: list[Row]) -> Table:
    header = ["connected", "KiB each", "with enrolment", "idle CPU", "opened/s", "alive at the end"]
    rows = [
        [
            f"{row['machines']:,}",
            f"{row['kib_each']:.1f}",
            f"{row['kib_each_with_enrolment']:.1f}",
            f"{row['idle_cpu_percent']:.1f} %",
            f"{row['opened_per_s']:,.0f}",
            f"{row['alive_at_end']:,}",
        ]
        for row in found
    ]
    return "Idle machines with one agent each, default heartbeat", header, rows


def _posts_table(row: Row) -> Table:
    title = f"{row['readers']:,} readers of one channel, {row['posts_per_s']:g} posts/s"
    header = [
        "posts",
        "delivered",
        "to each: p50",
        "p99",
        "to the last: p50",
        "p99",
        "hub CPU each",
    ]
    cells = [f"{row['posts']:,}", f"{row['delivered']:,}"]
    cells += [f"{row[name]:.1f} ms" for name in ("p50_ms", "p99_ms", "all_p50_ms", "all_p99_ms")]
    return title, header, [[*cells, f"{row['cpu_us']:.0f} us"]]


def _beside_table(row: Row) -> Table:
    title = f"Dispatch at {row['tasks_per_s']:.0f} tasks/s, without and with these posts"
    rows = [
        [words, *(f"{row[f'{name}_{part}_ms']:.2f} ms" for part in ("p50", "p99"))]
        for words, name in (("without", "dispatch"), ("with", "beside"))
    ]
    return title, ["posts", "p50", "p99"], rows


def _depth_table(found: Row) -> Table:
    header = ["queued", *_RATE, "RAM each", "filled/s"]
    rows = [
        [
            f"{row['queued']:,}",
            *_rate(row),
            f"{row['bytes_each']:.0f} B",
            f"{row['submits_per_s']:,.0f}",
        ]
        for row in found["rows"]
    ]
    return "With a queue of this length all the time, W=16", header, rows


def _events_table(found: Row) -> Table:
    header = ["queued", "agents", *_EVENTS.values()]
    rows = [
        [f"{row['queued']:,}", f"{row['agents']:,}"] + [f"{row[f'{n}_us']:.1f} us" for n in _EVENTS]
        for row in found["rows"]
    ]
    for what in ("depth", "agents"):
        ratios = [f"{found['ratios'][f'{name}_by_{what}']:.2f} x" for name in _EVENTS]
        rows.append(["most to least", f"by {what}", *ratios])
    return "CPU of one event in the core, median", header, rows


def _run_table(row: Row) -> Table:
    header = ["tasks", "agents", "CPU to submit", "CPU of the rest"]
    header += ["RSS empty", "filled", "in the end", "bytes each"]
    cells = [f"{row['tasks']:,}", f"{row['agents']:,}"]
    cells += [f"{row['fill_us']:.1f} us", f"{row['work_us']:.1f} us"]
    sizes = [f"{row[name] / 2**20:,.0f} MiB" for name in ("rss_before", "rss_filled", "rss_after")]
    title = "A queue worked off to its end in one process, core only"
    return title, header, [[*cells, *sizes, f"{row['bytes_each']:.0f}"]]


def _load_table(row: Row) -> Table:
    header = ["queued", "database", "scan", "load", "most memory for each task"]
    cells = [f"{row['queued']:,}", f"{row['file_bytes'] / 2**20:,.0f} MiB"]
    cells += [f"{row['scan_s']:.1f} s", f"{row['load_s']:.1f} s", f"{row['bytes_each']:.0f} B"]
    return "The hub's memory rebuilt from SQLite", header, [cells]


def machine_words(machine: Row) -> str:
    """Return in a sentence what was measured on."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, {machine['filesystem']}, Python {machine['python']}, "
        f"SQLite {machine['sqlite']}, commit {machine['commit']}"
    )


def _quietness(found: Found) -> str:
    cores = found["machine"]["cores"]
    if found["floors"]["load_average"] < cores / 4:
        return "The machine was quiet."
    return "Other programs ran: trust CPU per lifecycle and ratios, not the rates."


def markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of one table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
