"""What a hub measures, in the format that collectors read. Names are API.

Labels come from closed sets only, never from what users type. What is a count of things at hand
is asked for when someone reads, so that an idle hub does nothing.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

TASKS: Final = "agentcom_tasks"
AGENTS: Final = "agentcom_agents"
DISPATCH_SECONDS: Final = "agentcom_dispatch_seconds"
COMMIT_SECONDS: Final = "agentcom_commit_seconds"
TURN_SECONDS: Final = "agentcom_turn_seconds"
BATCH_FACTS: Final = "agentcom_batch_facts"
FACTS: Final = "agentcom_facts"
TASKS_ENDED: Final = "agentcom_tasks_ended"
LOOP_LAG_SECONDS: Final = "agentcom_loop_lag_seconds"
INBOX_FACTS: Final = "agentcom_inbox_facts"
OVERLOAD: Final = "agentcom_overload"
CONNECTIONS: Final = "agentcom_connections"
FRAMES: Final = "agentcom_frames"
REJECTED: Final = "agentcom_rejected"
LEASES: Final = "agentcom_leases"
LEASES_LOST: Final = "agentcom_leases_lost"
RESTARTS: Final = "agentcom_service_restarts"
LOGS_DROPPED: Final = "agentcom_log_records_dropped"

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_LATENCY: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0)
_LAG: Final = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_SIZE: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Spread(Collector):
    """A histogram that a busy loop fills: no lock, and one bucket is touched for each value."""

    def __init__(
        self, name: str, help_text: str, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._help = help_text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def describe(self) -> list[HistogramMetricFamily]:
        return [HistogramMetricFamily(self._name, self._help)]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        yield HistogramMetricFamily(self._name, self._help, buckets, self._sum)


class Metrics:
    """The metrics of one hub, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.dispatch = _latency(
            DISPATCH_SECONDS, "From submit or readiness to the push of an assignment", registry
        )
        self.commit = _latency(COMMIT_SECONDS, "A commit of the store, fsync included", registry)
        self.turn = _latency(TURN_SECONDS, "Deciding one batch of facts", registry)
        self.loop_lag = Spread(LOOP_LAG_SECONDS, "How late the event loop ran", _LAG, registry)
        self.batch = Spread(BATCH_FACTS, "Facts decided in one batch", _SIZE, registry)
        self.facts = Counter(FACTS, "Facts decided", ["kind"], registry=registry)
        self.ended = Counter(TASKS_ENDED, "Tasks that ended", ["state"], registry=registry)
        self.frames = Counter(FRAMES, "Frames on sockets", ["direction"], registry=registry)
        self.rejected = Counter(REJECTED, "Requests that were refused", ["code"], registry=registry)
        self.leases_lost = Counter(LEASES_LOST, "Leases that ran out", registry=registry)
        self.restarts = Counter(
            RESTARTS, "Restarts of the hub's services", ["service"], registry=registry
        )

    def watch(
        self,
        *,
        tasks: Callable[[], Mapping[str, int]],
        agents: Callable[[], Mapping[str, int]],
        connections: Callable[[], Mapping[str, int]],
    ) -> None:
        """Ask these for counts by state (of connections: by door) at every reading."""
        self.registry.register(_Counts(TASKS, "Tasks by state", "state", tasks))
        self.registry.register(_Counts(AGENTS, "Agents by state", "state", agents))
        self.registry.register(_Counts(CONNECTIONS, "Open connections", "door", connections))

    def watch_number(self, name: str, help_text: str, number: Callable[[], float]) -> None:
        """Ask `number` at every reading; for one of the names above that is a plain gauge."""
        Gauge(name, help_text, registry=self.registry).set_function(number)

    def render(self) -> bytes:
        """Return everything as text of type `CONTENT_TYPE`."""
        return generate_latest(self.registry)


class _Counts(Collector):
    """A gauge with one label, asked for when it is read."""

    def __init__(
        self, name: str, help_text: str, label: str, counts: Callable[[], Mapping[str, int]]
    ) -> None:
        self._name = name
        self._help = help_text
        self._label = label
        self._counts = counts

    def describe(self) -> list[GaugeMetricFamily]:
        return [GaugeMetricFamily(self._name, self._help, labels=[self._label])]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._help, labels=[self._label])
        for value, number in sorted(self._counts().items()):
            family.add_metric([value], number)
        yield family


def _latency(name: str, help_text: str, registry: CollectorRegistry) -> Spread:
    return Spread(name, help_text, _LATENCY, registry)
