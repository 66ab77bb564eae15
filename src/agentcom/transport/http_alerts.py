"""Routes of alerts: list, acknowledge, silence; and of their rules."""

from typing import Final

import msgspec

from agentcom.hub.limits_guard import Traffic
from agentcom.model.alert import Alert, AlertRule, RuleName, Silence
from agentcom.model.alert_rules import RULES
from agentcom.model.errors import NotFound
from agentcom.model.ids import DEFAULT_PROJECT
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.protocol.alerting import (
    AckAsked,
    AlertList,
    AlertsAsked,
    AlertShown,
    RuleAsked,
    RuleList,
    RuleShown,
    SilenceAsked,
)
from agentcom.protocol.asked import Nothing
from agentcom.transport.http_call import PREFIX, Call, Endpoint

_ALERTS: Final = f"{PREFIX}/alerts"
_RULES: Final = f"{PREFIX}/alert-rules"
_RULE: Final = f"{_RULES}/{{id}}"


async def _list(call: Call) -> AlertList:
    alerts = call.hall.alerting.alerts
    found = alerts.listed(everything=call.asked(AlertsAsked).all)
    project = call.who.project
    shared = project == DEFAULT_PROJECT  # only there one sees what is of the hub
    mine = [one for one in found if one.project == project or (shared and one.project is None)]
    return AlertList(
        alerts=tuple(_shown(call, one) for one in mine),
        silences=tuple(alerts.silences()) if shared else (),
    )


async def _ack(call: Call) -> AlertShown:
    alert = await call.hall.alerting.alerts.acknowledge(call.given(AckAsked).alert, call.who.user)
    return _shown(call, alert)


async def _silence(call: Call) -> Silence:
    asked = call.given(SilenceAsked)
    return await call.hall.alerting.alerts.silence(
        asked.rule, asked.subject, ms=asked.ms, reason=asked.reason, by=call.who.user
    )


async def _end_silence(call: Call) -> Done:
    await call.hall.alerting.alerts.end_silence(call.named())
    return Done("the silence is over")


async def _rules(call: Call) -> RuleList:
    return RuleList(rules=tuple(map(_rule, call.hall.alerting.alerts.rules())))


async def _set(call: Call) -> RuleShown:
    asked = call.given(RuleAsked)
    alerts = call.hall.alerting.alerts
    rule = next(one for one in alerts.rules() if one.name is asked.name)
    given = {name: value for name, value in msgspec.structs.asdict(asked).items()
             if value is not None and name != "name"}  # fmt: skip
    return _rule(await alerts.set_rule(msgspec.structs.replace(rule, **given)))


async def _reset(call: Call) -> RuleShown:
    return _rule(await call.hall.alerting.alerts.reset_rule(_named(call)))


async def _test(call: Call) -> Done:
    told = await call.hall.alerting.alerts.test(_named(call))
    return Done(f"{told} destinations are told that this is a test: agentcom notify ls")


def _named(call: Call) -> RuleName:
    try:
        return RuleName(call.named())
    except ValueError:
        raise NotFound("there is no such rule: agentcom alert rule ls") from None


def _shown(call: Call, alert: Alert) -> AlertShown:
    definition, alerts = RULES[alert.rule], call.hall.alerting.alerts
    reading = alerts.reading(alert)
    return AlertShown(
        alert=alert,
        id=alert.key,
        now=reading.said if reading is not None else "",
        value=reading.value if reading is not None else None,
        unit=definition.unit,
        todo=definition.todo,
        link=definition.link,
        silenced=any(
            one.covers(alert.rule, alert.subject, call.now.wall) for one in alerts.silences()
        ),
    )


def _rule(rule: AlertRule) -> RuleShown:
    definition = RULES[rule.name]
    return RuleShown(
        rule=rule,
        unit=definition.unit,
        means=definition.means,
        todo=definition.todo,
        link=definition.link,
        changed=rule != definition.default,
        below=definition.below,
    )


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path=_ALERTS,
        access=Action.ALERT_READ,
        handler=_list,
        summary="List alerts, the worst first, and what is kept quiet",
        query=AlertsAsked,
        reply=AlertList,
    ),
    Endpoint(
        method="POST",
        path=f"{_ALERTS}/ack",
        access=Action.ALERT_STEER,
        handler=_ack,
        summary="Note that one looks after an alert",
        body=AckAsked,
        reply=AlertShown,
    ),
    Endpoint(
        method="POST",
        path=f"{_ALERTS}/silences",
        access=Action.ALERT_STEER,
        handler=_silence,
        summary="Keep alerts quiet for a while",
        body=SilenceAsked,
        reply=Silence,
        status=201,
    ),
    Endpoint(
        method="DELETE",
        path=f"{_ALERTS}/silences/{{id}}",
        access=Action.ALERT_STEER,
        handler=_end_silence,
        summary="End a silence",
        reply=Done,
    ),
    Endpoint(
        method="GET",
        path=_RULES,
        access=Action.ALERT_READ,
        handler=_rules,
        summary="List the rules of alerts",
        reply=RuleList,
    ),
    Endpoint(
        method="POST",
        path=_RULES,
        access=Action.ALERT_STEER,
        handler=_set,
        summary="Change a rule",
        body=RuleAsked,
        reply=RuleShown,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="DELETE",
        path=_RULE,
        access=Action.ALERT_STEER,
        handler=_reset,
        summary="Give a rule its default again",
        reply=RuleShown,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="POST",
        path=f"{_RULE}/test",
        access=Action.ALERT_STEER,
        handler=_test,
        summary="Send a test to who would be told",
        body=Nothing,
        body_optional=True,
        reply=Done,
        traffic=Traffic.ADMIN,
    ),
)
