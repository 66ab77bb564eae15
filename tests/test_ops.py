"""Dashboard and alert rules speak of metrics that exist, with labels and values that they have."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentcom.hub.backup_schedule import Copies
from agentcom.hub.config import HubConfig
from agentcom.hub.limits_guard import Traffic
from agentcom.hub.readings import Readings
from agentcom.model.agent import AgentState
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.task import TaskState
from tests.hub.service_house import ServiceHouse
from tests.hub.test_figures import Made, copy, live

ROOT = Path(__file__).parent.parent
OPS = ROOT / "ops"
GUIDE = ROOT / "docs" / "guides" / "observe.md"
RULE = re.compile(
    r"      - alert: (?P<name>\w+)\n        expr: '(?P<expr>[^'\n]+)'\n        for: \d+[mh]\n"
    r"        labels:\n          severity: (?P<severity>warning|critical)\n        annotations:\n"
    r"          summary: \"(?P<summary>[^\"\n]+)\"\n          runbook: (?P<runbook>\S+)\n"
)
SELECTED = re.compile(r"\b((?:agentcom|process)_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
FROM_PROMETHEUS = {"instance", "job", "le"}
VALUES = {
    "state": {*map(str, TaskState), *map(str, AgentState), "connected", "away"},
    "outcome": {*map(str, FailureClass), *map(str, EventKind)},
    "traffic": set(map(str, Traffic)),
    "result": {"sent", "dropped", "now", "drill", "now_failed", "drill_failed"},
    "billing": {"priced", "included", "unpriced"},
    "code": {"fault"},
}


@pytest.fixture
async def exported() -> dict[str, set[str]]:
    """Every sample's name that a hub exports, with the names of its labels."""
    house = ServiceHouse()
    async with house.at_work():
        live(house, 200)
        measured = house.services.metrics
        copies: Copies = Made(copy(1))  # type: ignore[assignment] # only what is listed is asked for
        readings = Readings(HubConfig(home=ROOT), house.clock, "README.md", copies)
        readings.show(measured)
        await readings.refresh()
        measured.backup_runs.inc("now")
        measured.traces.inc("sent")
        measured.rejected.labels("fault").inc()
        measured.restarts.labels("mail").inc()
        found: dict[str, set[str]] = {}
        for family in measured.registry.collect():
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def panels() -> list[dict[str, Any]]:
    board = json.loads((OPS / "grafana" / "agentcom.json").read_text("utf-8"))
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def rules() -> list[re.Match[str]]:
    return list(RULE.finditer((OPS / "prometheus" / "agentcom-alerts.yml").read_text("utf-8")))


def expressions() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for rule in rules():
        yield rule["name"], rule["expr"]


def problems(expr: str, exported: dict[str, set[str]]) -> Iterator[str]:
    for name, selector in SELECTED.findall(expr):
        if name not in exported:
            yield f"{name} is not exported"
            continue
        for label, kind, value in MATCHER.findall(selector):
            if label in FROM_PROMETHEUS:
                continue
            if label not in exported[name]:
                yield f"{name} has no label {label}"
            strange = set(value.split("|") if "~" in kind else [value]) - VALUES[label]
            if strange:
                yield f"{label} is never {strange}"
    for by in re.findall(r"by \(([^)]*)\)", expr):
        labels = {one.strip() for one in by.split(",")} - FROM_PROMETHEUS
        known = set().union(*(exported.get(name, set()) for name, _ in SELECTED.findall(expr)))
        if not labels <= known:
            yield f"nothing is counted by {labels - known}"


async def test_every_expression_is_about_what_is_exported(exported: dict[str, set[str]]) -> None:
    found = {(title, said) for title, expr in expressions() for said in problems(expr, exported)}

    assert found == set()


async def test_a_name_that_is_wrong_is_noticed(exported: dict[str, set[str]]) -> None:
    wrong = 'sum by (colour) (agentcom_task{state="queued"}) + agentcom_tasks{stat="x",state="y"}'

    with pytest.raises(KeyError):
        list(problems(wrong, exported))
    assert list(problems("agentcom_nothing", exported)) == ["agentcom_nothing is not exported"]


def test_every_line_of_the_rules_is_part_of_one() -> None:
    text = (OPS / "prometheus" / "agentcom-alerts.yml").read_text("utf-8")
    head = text.partition("      - alert")[0]

    assert RULE.sub("", text) == head
    assert head.endswith("groups:\n  - name: agentcom\n    rules:\n")
    assert len({rule["name"] for rule in rules()}) == len(rules())


def test_brackets_and_windows_of_expressions_close() -> None:
    for title, expr in expressions():
        for opening, closing in ("()", "{}", "[]"):
            assert expr.count(opening) == expr.count(closing), title


def test_every_alert_is_in_the_guide_and_points_there() -> None:
    headings = re.findall(r"^### (\w+)$", GUIDE.read_text("utf-8"), re.MULTILINE)

    assert headings == [rule["name"] for rule in rules()]
    for rule in rules():
        assert rule["runbook"] == f"docs/guides/observe.md#{rule['name'].lower()}"


def test_panels_do_not_lie_on_each_other() -> None:
    board = json.loads((OPS / "grafana" / "agentcom.json").read_text("utf-8"))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x + at["x"], y + at["y"]) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
