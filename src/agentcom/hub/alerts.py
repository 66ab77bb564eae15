"""Alerts of a hub: looked for every few seconds, kept in the store, told to who wants to know.

What is decided at a look is in `core/alerts.py`. A change of an alert and the notices about it are
one write: a hub that dies in between has done neither, or both.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, cast

import structlog

from agentcom.core import alert_readings, alerts
from agentcom.core.alert_readings import is_known
from agentcom.core.alerts import Reading, Step, Tell
from agentcom.hub import acting
from agentcom.hub.alert_figures import Sampler
from agentcom.hub.alert_words import news_of
from agentcom.hub.clock import Clock
from agentcom.hub.notifications import Notifications
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import alert_rules, limits
from agentcom.model.address import HUB
from agentcom.model.alert import (
    Alert,
    AlertRule,
    AlertState,
    RuleName,
    Silence,
    alert_key,
)
from agentcom.model.alert_rules import RULES
from agentcom.model.batch import Row, Table
from agentcom.model.errors import AgentComError, Conflict, InvalidInput, NotFound
from agentcom.model.ids import IdSource, Now, WallTime
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.store.base import Query, Store
from agentcom.telemetry import events

LOOK_MS: Final = 10_000
"""Between two looks; each costs some five milliseconds with 5,000 agents."""
_PAGE: Final = 500

log = structlog.get_logger(__name__)


class Alerts:
    """All alerts, rules and silences of a hub; in memory, and in the store."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        clock: Clock,
        ids: IdSource,
        *,
        sampler: Sampler,
        notifications: Notifications,
        look_ms: int = LOOK_MS,
    ) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._ids = ids
        self.sampler = sampler
        self._notifications = notifications
        self.look_ms = look_ms
        self._rules: dict[RuleName, AlertRule] = {}
        self._alerts: dict[str, Alert] = {}
        self._silences: dict[str, Silence] = {}
        self._readings: dict[str, Reading] = {}
        self._loaded = False
        self._lock = asyncio.Lock()

    # The service ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look until cancelled; a supervisor's child."""
        await self.load()
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + self.look_ms / 1_000
            await asyncio.sleep(self.look_ms / 1_000)
            late_ms = int(max(0.0, loop.time() - due_s) * 1_000)
            try:
                await self.look(late_ms)
            except AgentComError as error:
                log.warning(events.ALERT_WAITS, reason=error.message)

    async def load(self) -> None:
        """Read what is stored."""
        if self._loaded:
            return
        self._rules = {name: one.default for name, one in RULES.items()}
        for rule in cast("list[AlertRule]", await self._all(Table.ALERT_RULE)):
            self._rules[rule.name] = rule
        stored = cast("list[Alert]", await self._all(Table.ALERT))
        self._alerts = {alert.key: alert for alert in stored}
        silences = cast("list[Silence]", await self._all(Table.SILENCE))
        self._silences = {silence.id: silence for silence in silences}
        self._loaded = True

    async def look(self, late_ms: int = 0) -> None:
        """Look once, and write and tell what has changed."""
        now = self._clock.now()
        figures = await self.sampler.figures(now, late_ms)
        found = alert_readings.look(self.sampler.view, figures, self._rules, now)
        self._readings = {_key(reading): reading for reading in found}
        uptime_ms = self.sampler.uptime_ms(now)
        async with self._lock:
            steps = {}
            for key in {**self._alerts, **self._readings}:
                rule = self._rules[RuleName(key.partition("/")[0])]
                reading = self._readings.get(key)
                unknown = reading is None and not is_known(rule.name, rule, figures, uptime_ms)
                if not unknown or not rule.enabled:
                    step = self._step(key, rule, reading, now)
                    if step.alert != self._alerts.get(key):
                        steps[key] = step
            if steps:
                await self._write_steps(steps)

    def _step(self, key: str, rule: AlertRule, reading: Reading | None, now: Now) -> Step:
        subject = key.partition("/")[2]
        quiet = any(one.covers(rule.name, subject, now.wall) for one in self._silences.values())
        return alerts.step(self._alerts.get(key), rule, reading, now.wall, quiet=quiet)

    async def _write_steps(self, steps: Mapping[str, Step]) -> None:
        async def decide(draft: Draft) -> Done:
            for key, step in steps.items():
                self._draft_alert(draft, key, step.alert)
                if step.tell is not None and step.alert is not None:
                    news = news_of(step.alert, step.tell, self._rules[step.alert.rule])
                    self._notifications.put(draft, news)
            return Done()

        await self._writer.once(HUB, Asked(cause="alerts"), decide)
        for step in steps.values():
            if step.alert is not None and step.alert.state in (
                AlertState.FIRING,
                AlertState.RESOLVED,
            ):
                log.info(
                    events.ALERT_CHANGED,
                    rule=step.alert.rule.value,
                    state=step.alert.state.value,
                    told=step.tell is not None,
                )

    def _draft_alert(self, draft: Draft, key: str, alert: Alert | None) -> None:
        """Write an alert's row; memory follows once it is durable."""
        old = self._alerts.get(key)
        if alert is None:
            if old is not None:
                draft.drop(Table.ALERT, key, old)
                draft.after.append(partial(self._alerts.__delitem__, key))
            return
        after = _next(alert, old)
        draft.put(Table.ALERT, key, after, old)
        draft.after.append(partial(self._alerts.__setitem__, key, after))

    # What people ask ------------------------------------------------------------------------------

    def firing(self) -> Mapping[str, int]:
        """Return how many alerts fire, by rule."""
        fire = (one.rule.value for one in self._alerts.values() if one.state is AlertState.FIRING)
        return Counter(fire)

    def listed(self, *, everything: bool) -> Sequence[Alert]:
        """Return the alerts that fire, the worst first; or all that there are and were."""
        found = list(self._alerts.values())
        if not everything:
            found = [alert for alert in found if alert.state is AlertState.FIRING]
        return sorted(found, key=lambda one: (one.state, -one.severity.rank, one.since, one.key))

    def find(self, text: str) -> Alert:
        """Return the alert of that name; raises `NotFound`."""
        alert = self._alerts.get(text)
        if alert is None:
            raise NotFound(f"there is no alert {text[:200]}: agentcom alert ls --all")
        return alert

    def reading(self, alert: Alert) -> Reading | None:
        """Return what the newest look found of it; None: nothing."""
        return self._readings.get(alert.key)

    def silences(self) -> Sequence[Silence]:
        """Return the silences that are not over, those that end first before others."""
        now = self._clock.now().wall
        found = [one for one in self._silences.values() if now < one.until]
        return sorted(found, key=lambda one: (one.until, one.id))

    def rules(self) -> Sequence[AlertRule]:
        """Return all rules as they are."""
        return [self._rules.get(name, one.default) for name, one in RULES.items()]

    async def acknowledge(self, text: str, by: str) -> Alert:
        """Note that somebody looks after an alert: it is not told again while it fires.

        Raises:
            NotFound: there is none of that name.
            Conflict: it does not fire.
        """
        async with self._lock:
            old = self.find(text)
            alert = alerts.acknowledged(old, by, self._clock.now().wall)

            async def decide(draft: Draft) -> Done:
                self._draft_alert(draft, old.key, alert)
                self._audit(draft, old.key, "acknowledge")
                return Done()

            if alert is not old:
                await self._writer.once(HUB, Asked(cause="ack"), decide)
            return self.find(text)

    async def silence(
        self, rule: RuleName, subject: str, *, ms: int, reason: str, by: str
    ) -> Silence:
        """Keep alerts quiet for a while.

        Raises:
            InvalidInput: no reason, or too long.
            Conflict: there are too many silences.
        """
        now = self._clock.now().wall
        if not reason.strip():
            raise InvalidInput("reason", "say why: whoever comes next wants to know")
        if not 0 < ms <= limits.SILENCE_MAX_MS:
            raise InvalidInput("ms", f"from 1 to {limits.SILENCE_MAX_MS}")
        async with self._lock:
            over = [one for one in self._silences.values() if one.until <= now]
            if len(self._silences) - len(over) >= limits.SILENCES_MAX:
                raise Conflict(f"there are {limits.SILENCES_MAX} silences: end some")
            made = Silence(
                id=self._ids.new(),
                rule=rule,
                subject=subject,
                until=WallTime(now + ms),
                reason=reason[: limits.REASON_CHARS],
                by=by,
                at=now,
            )

            async def decide(draft: Draft) -> Done:
                for one in over:
                    draft.drop(Table.SILENCE, one.id, one)
                draft.put(Table.SILENCE, made.id, made, None)
                self._audit(draft, alert_key(rule, subject), "silence")
                return Done()

            await self._writer.once(HUB, Asked(cause="silence"), decide)
            for one in over:
                del self._silences[one.id]
            self._silences[made.id] = made
            return made

    async def end_silence(self, text: str) -> None:
        """End a silence that is named by its id, or the end of it; raises `NotFound`."""
        async with self._lock:
            found = [one for one in self._silences.values() if text and one.id.endswith(text)]
            if len(found) != 1:
                raise NotFound("there is no such silence, or more than one: agentcom alert ls")

            async def decide(draft: Draft) -> Done:
                draft.drop(Table.SILENCE, found[0].id, found[0])
                self._audit(draft, alert_key(found[0].rule, found[0].subject), "end silence")
                return Done()

            await self._writer.once(HUB, Asked(cause="silence"), decide)
            del self._silences[found[0].id]

    async def set_rule(self, rule: AlertRule) -> AlertRule:
        """Change a rule; one that is like the default has no row.

        Raises:
            InvalidInput: its numbers are not possible, or nobody has the name of a destination.
        """
        alert_rules.check(rule)
        for name in rule.to:
            self._notifications.find(name)
        default = RULES[rule.name].default
        async with self._lock:
            old = self._rules[rule.name]
            stored = None if old == default else old

            async def decide(draft: Draft) -> Done:
                after = _next_rule(rule, stored)
                if after != _next_rule(default, stored):
                    draft.put(Table.ALERT_RULE, rule.name, after, stored)
                elif stored is not None:
                    draft.drop(Table.ALERT_RULE, rule.name, stored)
                self._audit(draft, rule.name.value, "change rule")
                return Done()

            await self._writer.once(HUB, Asked(cause="rule"), decide)
            after = _next_rule(rule, stored)
            is_default = after == _next_rule(default, stored)
            self._rules[rule.name] = default if is_default else after
            return self._rules[rule.name]

    async def reset_rule(self, name: RuleName) -> AlertRule:
        """Give a rule its default again."""
        return await self.set_rule(RULES[name].default)

    async def test(self, name: RuleName) -> int:
        """Tell those who would hear of a rule that this is a test; return how many they are."""
        rule, now = self._rules[name], self._clock.now().wall
        said = f"this is a test: {RULES[name].means}"
        reading = Reading(name, rule.threshold, said, subject="test")
        step = alerts.step(None, _at_once(rule), reading, now)
        assert step.alert is not None
        news = news_of(step.alert, Tell.FIRED, rule)

        async def decide(draft: Draft) -> Done:
            return Done(str(self._notifications.put(draft, news)))

        done = await self._writer.once(HUB, Asked(cause="test"), decide)
        return int(cast("Done", done).detail)

    async def prune(self, now: WallTime) -> int:
        """Delete alerts that are over for long, and silences; return how many rows went."""
        async with self._lock:
            old = [
                alert
                for alert in self._alerts.values()
                if alert.state is AlertState.RESOLVED
                and (alert.resolved_at or alert.since) + limits.ALERTS_KEEP_MS <= now
            ]
            silences = [one for one in self._silences.values() if one.until <= now]

            async def decide(draft: Draft) -> Done:
                for alert in old:
                    self._draft_alert(draft, alert.key, None)
                for one in silences:
                    draft.drop(Table.SILENCE, one.id, one)
                return Done()

            await self._writer.once(HUB, Asked(cause="prune"), decide)
            for one in silences:
                del self._silences[one.id]
            return len(old) + len(silences)

    def _audit(self, draft: Draft, target: str, how: str) -> None:
        now, action = self._clock.now().wall, Action.ALERT_STEER
        draft.audits.append(acting.note(now, action, f"alert:{target}", detail={"how": how}))

    async def _all(self, table: Table) -> list[Row]:
        rows: list[Row] = []
        after = ""
        while True:
            page = await self._store.query(Query(table=table, after=after, limit=_PAGE))
            rows += page.rows
            if page.next is None:
                return rows
            after = page.next


def _key(reading: Reading) -> str:
    return f"{reading.rule.value}/{reading.subject}" if reading.subject else reading.rule.value


def _next(alert: Alert, old: Alert | None) -> Alert:
    version = 1 if old is None else old.version + 1
    return alerts.replace(alert, version=version)


def _next_rule(rule: AlertRule, stored: AlertRule | None) -> AlertRule:
    version = 1 if stored is None else stored.version + 1
    return alerts.replace(rule, version=version)


def _at_once(rule: AlertRule) -> AlertRule:
    return alerts.replace(rule, for_ms=0)
