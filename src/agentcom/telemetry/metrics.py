"""What a hub measures, in the format that collectors read. Names are API.

Labels come from closed sets only, never from what users type. What is a count of things at hand
is asked for when someone reads, so that an idle hub does nothing. What these are made of:
`telemetry/families.py`.
"""

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    generate_latest,
)

from agentcom.model.usage import Usage
from agentcom.telemetry.families import Counts, Spread, Tally

TASKS: Final = "agentcom_tasks"
AGENTS: Final = "agentcom_agents"
QUEUE_OLDEST_SECONDS: Final = "agentcom_queue_oldest_seconds"
DISPATCH_SECONDS: Final = "agentcom_dispatch_seconds"
ATTEMPTS_ENDED: Final = "agentcom_attempts_ended"
TASKS_ENDED: Final = "agentcom_tasks_ended"
TOKENS: Final = "agentcom_tokens"
COST_USD: Final = "agentcom_cost_usd"
TURNS: Final = "agentcom_turns"
COMMIT_SECONDS: Final = "agentcom_commit_seconds"
TURN_SECONDS: Final = "agentcom_turn_seconds"
BATCH_FACTS: Final = "agentcom_batch_facts"
LOOP_LAG_SECONDS: Final = "agentcom_loop_lag_seconds"
INBOX_FACTS: Final = "agentcom_inbox_facts"
OVERLOAD: Final = "agentcom_overload"
CONNECTIONS: Final = "agentcom_connections"
FOLLOWERS: Final = "agentcom_followers"
FOLLOWER_LAG_RECORDS: Final = "agentcom_follower_lag_records"
FOLLOWER_WAITING_BYTES: Final = "agentcom_follower_waiting_bytes"
REJECTED: Final = "agentcom_rejected"
RATE_LIMITED: Final = "agentcom_rate_limited"
LEASES: Final = "agentcom_leases"
MACHINES: Final = "agentcom_machines"
LEASES_LOST: Final = "agentcom_leases_lost"
STORE_BYTES: Final = "agentcom_store_bytes"
DISK_FREE_BYTES: Final = "agentcom_disk_free_bytes"
BACKUPS: Final = "agentcom_backups"
BACKUP_AGE_SECONDS: Final = "agentcom_backup_age_seconds"
BACKUP_DRILL_AGE_SECONDS: Final = "agentcom_backup_drill_age_seconds"
BACKUP_RUNS: Final = "agentcom_backup_runs"
RESTARTS: Final = "agentcom_service_restarts"
ALERTS_FIRING: Final = "agentcom_alerts_firing"
NOTICES_WAITING: Final = "agentcom_notices_waiting"
DESTINATIONS_PARKED: Final = "agentcom_destinations_parked"
TRACES: Final = "agentcom_traces"
LOGS_DROPPED: Final = "agentcom_log_records_dropped"
STARTED_SECONDS: Final = "agentcom_started_seconds"
BUILD_INFO: Final = "agentcom_build_info"

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_LATENCY: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0)
_WAIT: Final = (*_LATENCY, 120.0, 600.0, 3_600.0)
_LAG: Final = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_SIZE: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The metrics of one hub, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.dispatch = Spread(
            DISPATCH_SECONDS,
            "From submit or readiness to the push of an assignment",
            _WAIT,
            registry,
        )
        self.attempts = Tally(ATTEMPTS_ENDED, "Attempts that ended", "outcome", registry)
        self.ended = Counter(TASKS_ENDED, "Tasks that ended", ["state"], registry=registry)
        self.tokens = Tally(TOKENS, "Tokens that agents spent", "kind", registry)
        self.cost = Counter(COST_USD, "What turns with a known price cost", registry=registry)
        self.turns = Tally(TURNS, "Turns of agents, by how they are paid", "billing", registry)
        self.commit = Spread(
            COMMIT_SECONDS, "A commit of the store, fsync included", _LATENCY, registry
        )
        self.turn = Spread(TURN_SECONDS, "Deciding one batch of facts", _LATENCY, registry)
        self.batch = Spread(BATCH_FACTS, "Facts decided in one batch", _SIZE, registry)
        self.loop_lag = Spread(LOOP_LAG_SECONDS, "How late the event loop ran", _LAG, registry)
        self.rejected = Counter(
            REJECTED, "HTTP requests that were refused", ["code"], registry=registry
        )
        self.rate_limited = Tally(
            RATE_LIMITED, "Requests beyond their identity's budget", "traffic", registry
        )
        self.leases_lost = Counter(LEASES_LOST, "Leases that ran out", registry=registry)
        self.backup_runs = Tally(BACKUP_RUNS, "Copies and drills by the clock", "result", registry)
        self.restarts = Counter(
            RESTARTS, "Restarts of the hub's services", ["service"], registry=registry
        )
        self.traces = Tally(TRACES, "Traces of tasks, by what became of them", "result", registry)
        ProcessCollector(registry=registry)

    def spent(self, usage: Usage) -> None:
        """Count one turn of an agent."""
        fresh = max(0, usage.input - usage.cached - usage.written)
        self.tokens.inc("input", fresh)
        self.tokens.inc("cached", usage.cached)
        self.tokens.inc("written", usage.written)
        self.tokens.inc("output", usage.output)
        billing = "included" if usage.included else "unpriced" if usage.unpriced else "priced"
        self.turns.inc(billing)
        self.cost.inc((usage.cost_micros or 0) / 1_000_000)

    def watch(
        self,
        *,
        tasks: Callable[[], Mapping[str, int]],
        agents: Callable[[], Mapping[str, int]],
        connections: Callable[[], Mapping[str, int]],
    ) -> None:
        """Ask these for counts by state (of connections: by door) at every reading."""
        self.watch_counts(TASKS, "Tasks by state", "state", tasks)
        self.watch_counts(AGENTS, "Agents by state", "state", agents)
        self.watch_counts(CONNECTIONS, "Open connections", "door", connections)

    def watch_counts(
        self, name: str, help_text: str, label: str, counts: Callable[[], Mapping[str, float]]
    ) -> None:
        """Ask `counts` at every reading; the values of its label come from a closed set."""
        self.registry.register(Counts(name, help_text, label, counts))

    def watch_number(self, name: str, help_text: str, number: Callable[[], float]) -> None:
        """Ask `number` at every reading; for one of the names above that is a plain gauge."""
        Gauge(name, help_text, registry=self.registry).set_function(number)

    def state(self, *, version: str, python: str, store: str, started_s: float) -> None:
        """Say what runs here, and since when."""
        info = Gauge(
            BUILD_INFO, "What runs here", ["version", "python", "store"], registry=self.registry
        )
        info.labels(version, python, store).set(1)
        started = Gauge(STARTED_SECONDS, "When the hub started", registry=self.registry)
        started.set(started_s)

    def render(self) -> bytes:
        """Return everything as text of type `CONTENT_TYPE`."""
        return generate_latest(self.registry)
