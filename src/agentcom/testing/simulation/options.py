"""What one seed does: drawn from it once, printed with every failure, and changed by a shrink."""

import random
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agentcom.testing.simulation.kernel import MINUTE, MS, SECOND

FAULT_FREE: Final = 0.04
"""Share of seeds without any fault: what breaks there is no fault's doing."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """One run's world. Rates are shares (0 to 1); times are microseconds; intervals are means."""

    seed: int
    hours: float
    machines: int = 4
    slots: int = 2
    people: int = 2
    ttl_ms: int = 20_000
    work_us: int = 90 * SECOND
    """Mean time of an agent's work."""
    open_max: int = 20
    """Tasks of one person that have not ended."""

    # The network, for each message.
    lossy: bool = False
    """True: a message may be lost or doubled on a connection that stands."""
    latency_us: int = 10 * MS
    drop: float = 0.0
    double: float = 0.0
    spike: float = 0.0
    """Share of messages that are late."""
    spike_us: int = 8 * SECOND
    """How late, at most."""
    cut: float = 0.0
    """Share of writes with which the connection breaks."""
    half_open: float = 0.5
    """Share of breaks that one side does not hear of."""

    # The hub's disk, for each commit.
    sync_us: int = MS
    full: float = 0.0
    conflict: float = 0.0
    unknown: float = 0.0
    term_lost: float = 0.0
    sync_fails: float = 0.0
    slow: float = 0.0

    # The nemesis: mean time between two of a kind; absent means never.
    every_us: Mapping[str, int] = {}
    suppressed: tuple[int, ...] = ()
    """Numbers of its acts that are left out: how a failing run is made smaller."""

    # How agents behave.
    agent_fails: float = 0.05
    agent_crashes: float = 0.02
    agent_hangs: float = 0.01
    quota: float = 0.02
    accounts: int = 0
    """Accounts that the machines share; none has its own."""
    merges: float = 0.4
    drift_ppm: int = 0
    limits: bool = False
    """Whether tasks have keys, claim files, use resources and speak of agents by name."""
    buggify: float = 0.0
    """Chance of each cooperative fault point of the shell."""
    graphs: float = 0.0
    """Share of tasks with a group, a review, an approval or a policy."""
    subtasks: float = 0.0
    """Chance that an agent asks for sub-tasks, at each of its steps."""
    spends: float = 0.0
    """Share of agents that tell what their turns cost."""
    budget: bool = False
    """True: the project has a budget, which is used up and raised again and again."""
    mail: bool = False
    """Whether agents and people write to each other."""
    locks: bool = False
    """Whether agents and people lock names and files."""
    asks: bool = False
    """Whether agents and people ask questions."""
    channels: bool = False
    """Whether agents and people post to channels."""
    reviews: float = 0.0
    """Share of what lands that goes to review, as a pull request."""


LOSSY: Final = 0.8
"""Share of seeds whose machines' links lose and double messages."""
WRITING: Final = 0.25
"""Share of seeds with mail."""
LOCKING: Final = 0.25
"""Share of seeds with locks."""
ASKING: Final = 0.25
"""Share of seeds with questions."""
POSTING: Final = 0.25
"""Share of seeds with channels."""
REVIEWED: Final = 0.25
"""Share of seeds with pull requests."""
LIMITED: Final = 0.5
"""Share of seeds whose tasks stand behind limits and claims of files."""
BEDTIME_US: Final = 15 * MINUTE
"""How often a machine of an odd seed knows before that its computer will sleep."""
BUDGETS: Final = 0.3
"""Share of seeds with a budget."""
INTERVALS: Final[Mapping[str, tuple[int, ...]]] = {
    "hub_crash": (30 * SECOND, 60 * SECOND, 2 * MINUTE, 10 * MINUTE),
    "hub_restart": (10 * MINUTE,),
    "hub_stall": (4 * MINUTE, 15 * MINUTE),
    "sidecar_crash": (2 * MINUTE, 10 * MINUTE),
    "machine_crash": (5 * MINUTE, 20 * MINUTE),
    "machine_sleep": (5 * MINUTE, 20 * MINUTE),
    "agent_kill": (2 * MINUTE, 10 * MINUTE),
    "partition": (3 * MINUTE, 15 * MINUTE),
    "swizzle": (5 * MINUTE, 15 * MINUTE),
    "clock_step": (10 * MINUTE,),
    "clone": (20 * MINUTE,),
    "forgery": (30 * SECOND, 3 * MINUTE),
    "revoke": (30 * MINUTE,),
    "restore": (40 * MINUTE,),
    "disk_full": (10 * MINUTE,),
    "skew": (15 * MINUTE,),
    "operator": (1 * MINUTE, 5 * MINUTE),
    "limit": (1 * MINUTE, 4 * MINUTE),
}
"""What the nemesis does, and how often a seed may have it do so."""


def draw(seed: int, hours: float) -> Options:
    """Return the options of a seed; the same ones each time."""
    rng = random.Random(f"{seed}/options")
    sizes: dict[str, Any] = {
        "machines": rng.choice((2, 2, 3, 3, 4, 6)),
        "slots": rng.choice((1, 1, 2, 3)),
        "people": rng.choice((1, 1, 2, 3)),
        "ttl_ms": rng.choice((6_000, 12_000, 20_000, 20_000, 60_000, 60_000, 60_000, 60_000)),
        "work_us": rng.choice((40, 90, 180, 240)) * SECOND,
        "open_max": rng.choice((6, 12, 30)),
    }
    if rng.random() < FAULT_FREE:
        return Options(seed=seed, hours=hours, agent_fails=0, agent_crashes=0, **sizes)
    lossy = rng.random() < LOSSY
    every = {
        kind: rng.choice(choices)
        for kind, choices in INTERVALS.items()
        if rng.random() < (0.9 if kind == "hub_crash" else 0.55)
    }
    if seed % 2:
        every["machine_bedtime"] = BEDTIME_US
    options = Options(
        seed=seed,
        hours=hours,
        lossy=lossy,
        latency_us=rng.choice((10, 100, 2_000)) * MS,
        drop=rng.choice((0, 0.02, 0.1, 0.3)),
        double=rng.choice((0, 0.1, 0.3)),
        spike=rng.choice((0.2, 0.3, 0.75)),
        spike_us=rng.choice((1, 8)) * SECOND,
        cut=rng.choice((0, 0.0005, 0.005)),
        half_open=rng.choice((0, 0.3, 0.7)),
        sync_us=rng.choice((1, 10, 300)) * MS,
        full=rng.choice((0, 0, 0.01, 0.05)),
        conflict=rng.choice((0, 0, 0.01)),
        unknown=rng.choice((0, 0, 0.01)),
        term_lost=rng.choice((0, 0, 0, 0.001)),
        sync_fails=rng.choice((0, 0, 0.002)),
        slow=rng.choice((0, 0.01)),
        every_us=every,
        agent_fails=rng.choice((0, 0.05, 0.3)),
        agent_crashes=rng.choice((0, 0.05)),
        agent_hangs=rng.choice((0, 0.02)),
        quota=rng.choice((0, 0.05)),
        merges=rng.choice((0, 0.4, 0.9)),
        drift_ppm=rng.choice((0, 100, 20_000)),
        buggify=rng.choice((0, 0.02)),
        **sizes,
    )
    return _with_costs(_with_work(options, rng), rng)


def _with_work(options: Options, rng: random.Random) -> Options:
    """Return options with limits, graphs and sub-tasks."""
    limits, graphs = rng.random() < LIMITED, rng.choice((0, 0.3, 0.7))
    subtasks = rng.choice((0, 0.05, 0.15))
    return msgspec.structs.replace(options, limits=limits, graphs=graphs, subtasks=subtasks)


def _with_costs(options: Options, rng: random.Random) -> Options:
    """Return options with accounts that run out, budgets, locks, mail and questions."""
    accounts = rng.choice((0, 1, 2))
    # Accounts without use would show nothing: where they are shared, they run out.
    quota = rng.choice((0.05, 0.2)) if accounts else options.quota
    spends, budget = rng.choice((0, 0.5, 1)), rng.random() < BUDGETS
    return msgspec.structs.replace(
        options,
        accounts=accounts,
        quota=quota,
        spends=spends,
        budget=budget,
        locks=rng.random() < LOCKING,
        mail=rng.random() < WRITING,
        asks=rng.random() < ASKING,
        channels=rng.random() < POSTING,
        reviews=rng.choice((0.3, 0.9)) if rng.random() < REVIEWED else 0,
    )
