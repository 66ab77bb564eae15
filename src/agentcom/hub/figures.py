"""Figures of a running hub's parts: asked for when somebody reads the metrics, and never else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from agentcom.hub.alerting import Alerting
from agentcom.hub.engine import Engine
from agentcom.hub.feeds import Feeds
from agentcom.hub.journal_log import JournalLog
from agentcom.hub.queries_fleet import Fleet
from agentcom.hub.switchboard import Switchboard
from agentcom.model.agent import AgentState
from agentcom.model.alert import RuleName
from agentcom.model.notify import DestinationKind
from agentcom.model.task import TaskState
from agentcom.telemetry import logs, metrics
from agentcom.telemetry.metrics import Metrics

# All states, so that a series does not vanish when nothing is in one: rules could not see that.
_LIVE: Final = {one.value: 0 for one in TaskState if not one.terminal}
_AGENTS: Final = {one.value: 0 for one in AgentState}
_RULES: Final = {one.value: 0 for one in RuleName}
_KINDS: Final = {one.value: 0 for one in DestinationKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a hub's parts can say of themselves."""

    alerting: Alerting
    engine: Engine
    fleet: Fleet
    feeds: Feeds
    journal: JournalLog
    switchboard: Switchboard
    streams: Mapping[str, int]

    def show(self, measured: Metrics) -> None:
        """Put them among a hub's metrics."""
        fleet, feeds = self.fleet, self.feeds
        measured.watch(
            tasks=lambda: {**_LIVE, **fleet.task_counts()},
            agents=lambda: {**_AGENTS, **fleet.agent_counts()},
            connections=self._doors,
        )
        measured.watch_counts(metrics.MACHINES, "Machines of the fleet", "state", self._machines)
        self._show_alerting(measured)
        numbers: list[tuple[str, str, Callable[[], float]]] = [
            (metrics.INBOX_FACTS, "Facts that wait for a decision", lambda: self.engine.backlog),
            (metrics.LEASES, "Leases of connected machines", lambda: fleet.machine_counts()[1]),
            (metrics.QUEUE_OLDEST_SECONDS, "How long the first task waits", self.journal.oldest_s),
            (metrics.FOLLOWERS, "Followers of task feeds", lambda: feeds.follower_count),
            (metrics.FOLLOWER_LAG_RECORDS, "What the slowest lacks", lambda: feeds.lag()[0]),
            (metrics.FOLLOWER_WAITING_BYTES, "Most that waits for one", lambda: feeds.lag()[1]),
            (metrics.LOGS_DROPPED, "Log records that were dropped", logs.dropped),
        ]
        for name, text, number in numbers:
            measured.watch_number(name, text, number)

    def _show_alerting(self, measured: Metrics) -> None:
        alerts, told = self.alerting.alerts, self.alerting.notifications
        measured.watch_counts(
            metrics.ALERTS_FIRING,
            "Alerts of the hub that fire",
            "rule",
            lambda: {**_RULES, **alerts.firing()},
        )
        measured.watch_counts(
            metrics.NOTICES_WAITING,
            "Notices in the outbox, by where they go",
            "kind",
            lambda: {**_KINDS, **told.waiting_by_kind()},
        )
        measured.watch_counts(
            metrics.DESTINATIONS_PARKED,
            "Destinations that get nothing until a person lets them go on",
            "kind",
            lambda: {**_KINDS, **told.parked_by_kind()},
        )

    def _doors(self) -> Mapping[str, int]:
        return {"ws": self.switchboard.connection_count, "stream": sum(self.streams.values())}

    def _machines(self) -> Mapping[str, int]:
        known, connected = self.fleet.machine_counts()
        return {"connected": connected, "away": known - connected}
