"""What metrics are made of beside the library's own: cheaper to fill, or asked for when read."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


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


class Tally(Collector):
    """A counter with one label that a busy loop fills: no lock, and one entry is touched."""

    def __init__(self, name: str, help_text: str, label: str, registry: CollectorRegistry) -> None:
        self._name = name
        self._help = help_text
        self._label = label
        self._counts: dict[str, float] = {}
        registry.register(self)

    def inc(self, value: str, by: float = 1) -> None:
        """Count under a value of the label, which comes from a closed set."""
        self._counts[value] = self._counts.get(value, 0) + by

    def describe(self) -> list[CounterMetricFamily]:
        return [CounterMetricFamily(self._name, self._help, labels=[self._label])]

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._help, labels=[self._label])
        for value, number in sorted(self._counts.items()):
            family.add_metric([value], number)
        yield family


class Counts(Collector):
    """A gauge with one label, asked for when it is read."""

    def __init__(
        self, name: str, help_text: str, label: str, counts: Callable[[], Mapping[str, float]]
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
