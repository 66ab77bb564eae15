"""What rounds of several systems come to: medians, ratios of one round, and the targets."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bench import slices
from bench.report import Table, Target, floors_table, machine_words, markdown_table

HUB: Final = "AgentCom"
NATS_ALWAYS: Final = "NATS JetStream, sync always"
NATS: Final = "NATS JetStream, default sync"
CELERY: Final = "Celery, Redis"
TASKIQ: Final = "taskiq, Redis streams"
DASK: Final = "Dask.distributed"
PROCRASTINATE: Final = "Procrastinate, PostgreSQL"
PGQUEUER: Final = "PgQueuer, PostgreSQL"

RATES_MIN: Final[Mapping[str, float]] = {
    PROCRASTINATE: 20.0,
    PGQUEUER: 6.0,
    DASK: 7.0,
    CELERY: 18.0,
    NATS_ALWAYS: 6.0,
    NATS: 1.3,
}
"""How many times a peer's lifecycles a second the hub shall carry."""
P50S_MAX: Final[Mapping[str, float]] = {
    NATS_ALWAYS: 1.1,
    PROCRASTINATE: 1 / 3,
    PGQUEUER: 1 / 3,
    CELERY: 1 / 2,
}
"""Which part of a peer's median dispatch time the hub's may be."""
P50_MS_MAX: Final = 2.0
P99_OF_DASK_MAX: Final = 1 / 20
DURABLE: Final = frozenset({HUB, NATS_ALWAYS, PROCRASTINATE, PGQUEUER})
"""An acknowledged task outlives a power failure, by the settings that are measured here."""

Found = dict[str, Any]


class Round(NamedTuple):
    """One round of one system."""

    per_s: float
    cpu_us: float
    """CPU of client, server and worker together, for each lifecycle."""
    latencies_ms: Sequence[float]


class Summary(NamedTuple):
    """What the rounds of one system come to."""

    per_s: float
    per_s_min: float
    per_s_max: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    rounds: int
    dispatches: int


def summary(rounds: Sequence[Round]) -> Summary:
    """Return medians; dispatch times of all rounds count together."""
    rates = [each.per_s for each in rounds]
    times = [time for each in rounds for time in each.latencies_ms]
    return Summary(
        statistics.median(rates),
        min(rates),
        max(rates),
        statistics.median(each.cpu_us for each in rounds),
        part(times, 0.5),
        part(times, 0.99),
        len(rounds),
        len(times),
    )


def part(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all are not above: the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def ratios(ours: Sequence[Round], theirs: Sequence[Round]) -> tuple[float, float, float]:
    """Return the median, least and greatest ratio of rates, each of one round's two."""
    found = [a.per_s / b.per_s for a, b in zip(ours, theirs, strict=False)]
    return statistics.median(found), min(found), max(found)


def targets(rounds: Mapping[str, Sequence[Round]]) -> Iterator[Target]:
    """Yield what was aimed at, as far as this run says something about it."""
    if not rounds.get(HUB):
        return
    ours = summary(rounds[HUB])
    peers = {name: summary(each) for name, each in rounds.items() if each and name != HUB}
    for name, wanted in RATES_MIN.items():
        if name in peers:
            found, *_ = ratios(rounds[HUB], rounds[name])
            yield _at_least(f"lifecycles/s against {name}", found, wanted)
    yield Target(
        "dispatch p50",
        f"{ours.p50_ms:.2f} ms",
        f"<= {P50_MS_MAX:.1f} ms",
        ours.p50_ms <= P50_MS_MAX,
    )
    for name, wanted in P50S_MAX.items():
        if name in peers:
            yield _at_most(f"dispatch p50 against {name}", ours.p50_ms / peers[name].p50_ms, wanted)
    durable = {name: peers[name].p99_ms for name in peers if name in DURABLE}
    if durable:
        best = min(durable, key=durable.__getitem__)
        share = ours.p99_ms / durable[best]
        yield _at_most(f"dispatch p99 against the best durable peer ({best})", share, 1.0)
    if DASK in peers:
        share = ours.p99_ms / peers[DASK].p99_ms
        yield _at_most(f"dispatch p99 against {DASK}", share, P99_OF_DASK_MAX)


def _at_least(name: str, found: float, wanted: float) -> Target:
    return Target(name, f"{found:.1f} x", f">= {wanted:g} x", found >= wanted)


def _at_most(name: str, found: float, wanted: float) -> Target:
    return Target(name, f"{found:.2f} x", f"<= {wanted:.2f} x", found <= wanted)


# As text ----------------------------------------------------------------------------------------


def tables(found: Found) -> Iterator[Table]:
    """Yield title, header and rows of each table."""
    rounds = rounds_of(found)
    yield _systems_table(found, rounds)
    rows = [[t.name, t.measured, t.wanted, "yes" if t.met else "NO"] for t in targets(rounds)]
    yield "Targets", ["figure", "measured", "target", "met"], rows
    yield floors_table(found["floors"])


def rounds_of(found: Found) -> dict[str, list[Round]]:
    """Return the rounds of each system that ran, the fastest first."""
    rounds = {
        name: [
            Round(each["per_s"], each["cpu_us"], each["latencies_ms"]) for each in system["rounds"]
        ]
        for name, system in found["systems"].items()
        if system["rounds"]
    }
    return dict(sorted(rounds.items(), key=lambda pair: -summary(pair[1]).per_s))


def _systems_table(found: Found, rounds: Mapping[str, Sequence[Round]]) -> Table:
    header = ["system", "version", "durable", "lifecycles/s", "range", "AgentCom's multiple"]
    header += ["CPU each", "dispatch p50", "p99"]
    rows = []
    for name, each in rounds.items():
        got = summary(each)
        row = [name, found["systems"][name]["version"], "yes" if name in DURABLE else "no"]
        row += [f"{got.per_s:,.0f}", f"{got.per_s_min:,.0f} - {got.per_s_max:,.0f}"]
        row.append(_multiple(rounds, name))
        row += [f"{got.cpu_us:,.0f} us", f"{got.p50_ms:.2f} ms", f"{got.p99_ms:.2f} ms"]
        rows.append(row)
    return f"The same job, {found['slots']} slots, {found['rounds']} rounds in turns", header, rows


def _multiple(rounds: Mapping[str, Sequence[Round]], name: str) -> str:
    if name == HUB or not rounds.get(HUB):
        return ""
    middle, least, most = ratios(rounds[HUB], rounds[name])
    return f"{middle:.1f} ({least:.1f} - {most:.1f})"


def markdown(found: Found, picture: str) -> str:
    """Return the page of one run."""
    loads = f"{found['floors']['load_average']:.1f} before, {found['load_average_after']:.1f} after"
    lines = [
        f"# AgentCom and its peers, {found['date']}",
        "",
        f"{machine_words(found['machine'])}. How: [method](method.md#peers).",
        "",
        f"Load average {loads}; the systems under test are part of the second. Rounds take turns: "
        "trust the multiples, which compare two systems within one round, before the rates. "
        + slices.words(short=found["short_slices"]),
        "",
        f"![Lifecycles a second and dispatch time of each system]({picture})",
    ]
    for title, header, rows in tables(found):
        lines += ["", f"## {title}", "", *markdown_table(header, rows)]
    missing = [
        f"- {name}: {system['why_not']}"
        for name, system in found["systems"].items()
        if system["why_not"]
    ]
    if missing:
        lines += ["", "## What did not run, or not always", "", *missing]
    return "\n".join(lines) + "\n"
