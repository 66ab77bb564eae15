"""Traces go to a collector beside the hub's work; whatever that does, the hub does not notice."""

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from agentcom.hub import tracing
from agentcom.hub.config import ConfigInvalid
from agentcom.hub.tracing import QUEUE_MAX, Traces, read_headers
from agentcom.model.batch import Append, Batch, Insert, Table, usage_key
from agentcom.model.event import task_log
from agentcom.model.ids import DEFAULT_POOL, BatchId, TaskId
from agentcom.store.memory import MemoryStore
from tests.hub.collector import Collector, collecting
from tests.hub.test_spans import LIFE, TASK, turn

APPENDS = tuple(Append(task_log(TASK), event) for event in LIFE)


class Nobody:
    def publish(self, first: int, appends: Sequence[Append]) -> None:
        """Take nothing."""


async def stored() -> MemoryStore:
    store = MemoryStore()
    await store.open()
    row = turn(1, 5_000, 900)
    insert = Insert(Table.USAGE, usage_key(TASK, row.fence, 1), row)
    await store.commit(
        Batch(id=BatchId("b1"), pool=DEFAULT_POOL, changes=(insert,), appends=APPENDS)
    )
    return store


async def traces(collector: Collector, counted: Counter[str]) -> Traces:
    def count(result: str, number: float) -> None:
        counted[result] += int(number)

    return Traces(
        Nobody(),
        await stored(),
        collector.url + "/",
        headers={"x-api-key": "of-the-collector"},
        instance="here",
        count=count,
    )


async def test_a_task_that_ended_arrives_as_the_schema_wants_it() -> None:
    counted: Counter[str] = Counter()
    async with collecting() as collector, httpx.AsyncClient() as client:
        made = await traces(collector, counted)
        made.publish(1, APPENDS[:-1])
        await made.flush(client)
        assert collector.heads == []

        made.publish(9, APPENDS[-1:])
        await made.flush(client)

        names = [span.name for span in collector.spans]
        root = collector.spans[0]
        (chat,) = [span for span in collector.spans if span.name.startswith("chat")]
    assert names[:2] == ["task", "wait"]
    assert "landing" in names
    assert (len(root.trace_id), len(root.span_id), root.parent_span_id) == (16, 8, b"")
    assert root.end_time_unix_nano - root.start_time_unix_nano == 10_000_000_000
    tokens = {one.key: one.value.int_value for one in chat.attributes}
    assert tokens["gen_ai.usage.input_tokens"] == 100
    assert counted == {"sent": 1}
    head = collector.heads[0].lower()
    assert head.startswith("post /v1/traces ")
    assert "x-api-key: of-the-collector" in head
    assert "content-type: application/json" in head


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "BACKOFF_S", 0.0)
    monkeypatch.setattr(tracing, "SEND_S", 0.05)


@pytest.mark.usefixtures("at_once")
async def test_a_collector_that_is_busy_is_asked_again() -> None:
    counted: Counter[str] = Counter()
    async with collecting() as collector, httpx.AsyncClient() as client:
        collector.answers = [503, 429]
        made = await traces(collector, counted)
        made.publish(1, APPENDS)
        await made.flush(client)

        assert len(collector.bodies) == 1
    assert counted == {"sent": 1}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("status", [400, 401, 500])
async def test_what_a_collector_refuses_is_dropped_and_counted(status: int) -> None:
    counted: Counter[str] = Counter()
    async with collecting() as collector, httpx.AsyncClient() as client:
        collector.answers = [status]
        made = await traces(collector, counted)
        made.publish(1, APPENDS)
        await made.flush(client)

        assert len(collector.heads) == 1
    assert counted == {"dropped": 1}


@pytest.mark.usefixtures("at_once")
async def test_a_collector_that_is_gone_or_says_nothing_costs_traces_and_nothing_else() -> None:
    counted: Counter[str] = Counter()
    async with collecting() as collector, httpx.AsyncClient(timeout=0.05) as client:
        collector.silent = True
        made = await traces(collector, counted)
        made.publish(1, APPENDS)
        await made.flush(client)
        assert counted == {"dropped": 1}
        made._address = "http://127.0.0.1:9/v1/traces"
        made.publish(1, APPENDS)
        await made.flush(client)

    assert counted == {"dropped": 2}


async def test_more_than_the_queue_holds_is_counted() -> None:
    counted: Counter[str] = Counter()
    async with collecting() as collector:
        made = await traces(collector, counted)

        for _ in range(QUEUE_MAX + 7):
            made.publish(1, APPENDS[-1:])

    assert counted == {"dropped": 7}


async def test_a_task_without_records_is_no_trace() -> None:
    counted: Counter[str] = Counter()
    async with collecting() as collector, httpx.AsyncClient() as client:
        made = await traces(collector, counted)
        made._ended.append(TaskId("gone"))
        await made.flush(client)

    assert collector.heads == []


def test_a_hub_without_a_collector_does_not_even_load_the_exporter() -> None:
    program = (
        "import sys, agentcom.app; from pathlib import Path;"
        "from agentcom.hub.config import HubConfig; from agentcom.hub.clock import SystemClock;"
        "import asyncio, tempfile; home = Path(tempfile.mkdtemp());"
        "config = HubConfig(home=home, store='memory');"
        "agentcom.app._Hub(config, None, SystemClock(), asyncio.Event());"
        "print([name for name in sys.modules if name.endswith(('tracing', 'otlp', '.spans'))])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.stdout == "[]\n", done.stderr


def test_headers_are_read_from_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer abc\n\nX-Team: a: b\n")
    file.chmod(0o600)

    assert read_headers(file) == {"Authorization": "Bearer abc", "X-Team": "a: b"}
    assert read_headers(None) == {}
    file.chmod(0o644)
    with pytest.raises(ConfigInvalid, match="chmod 600"):
        read_headers(file)
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        read_headers(tmp_path / "none")
    file.write_text("no header\n")
    file.chmod(0o600)
    with pytest.raises(ConfigInvalid, match="not `Name: value`"):
        read_headers(file)
