import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from agentcom.model import token_text
from agentcom.model.identity import CredentialKind
from agentcom.telemetry import events
from agentcom.telemetry.logs import FIELD_CHARS_MAX, LogPipe, configure
from agentcom.telemetry.redact import GONE
from agentcom.testing.waiting import PATIENCE_S

TOKEN = token_text.compose(CredentialKind.USER, "abcd1234", "s" * 43)

Start = Callable[..., LogPipe]


@pytest.fixture
def start() -> Iterator[Start]:
    """Configure the process's logs, and undo that at the end."""
    root = logging.getLogger()
    level = root.level
    pipes = []

    def begin(**options: Any) -> LogPipe:
        pipe = configure(**options)
        pipes.append(pipe)
        return pipe

    yield begin
    for pipe in pipes:
        pipe.close()
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json(start: Start) -> None:
    stream = io.StringIO()
    pipe = start(as_json=True, stream=stream)

    structlog.get_logger().info(events.HUB_READY, port=7420)
    pipe.close()

    (line,) = lines(stream)
    assert (line["event"], line["port"], line["level"]) == ("hub.ready", 7420, "info")
    assert line["timestamp"].endswith("Z")


def test_text_cannot_forge_a_line(start: Start) -> None:
    stream = io.StringIO()
    pipe = start(as_json=True, stream=stream)

    structlog.get_logger().info("task.submitted", title='x\n{"event": "hub.failed"}')
    pipe.close()

    assert [line["event"] for line in lines(stream)] == ["task.submitted"]


def test_logs_of_libraries_take_the_same_way(start: Start) -> None:
    stream = io.StringIO()
    pipe = start(as_json=True, stream=stream)

    logging.getLogger("uvicorn.error").warning("cannot %s", "bind")
    pipe.close()

    (line,) = lines(stream)
    assert (line["event"], line["level"]) == ("cannot bind", "warning")


def test_a_person_gets_readable_lines(start: Start) -> None:
    stream = io.StringIO()
    pipe = start(as_json=False, stream=stream)

    structlog.get_logger().info(events.HUB_READY, port=7420)
    pipe.close()

    assert "hub.ready" in stream.getvalue()
    assert "port=7420" in stream.getvalue()


def test_secrets_are_taken_out_wherever_they_stand(start: Start) -> None:
    stream = io.StringIO()
    pipe = start(as_json=True, stream=stream, secrets=["the-pepper-of-this-hub"])

    try:
        int(TOKEN)
    except ValueError:
        structlog.get_logger().exception("hub.failed", nested={"a": ["the-pepper-of-this-hub"]})
    logging.getLogger("library").error("got %s", TOKEN)
    pipe.close()

    assert TOKEN not in stream.getvalue()
    assert "the-pepper" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()


@pytest.mark.parametrize("field", ["token", "prompt", "payload", "authorization", "body"])
def test_some_fields_are_never_logged_whatever_they_hold(start: Start, field: str) -> None:
    stream = io.StringIO()
    pipe = start(as_json=True, stream=stream)

    structlog.get_logger().info("task.submitted", **{field: "build me a house"})
    pipe.close()

    assert lines(stream)[0][field] == GONE


def test_what_is_below_the_level_is_not_written(start: Start) -> None:
    stream = io.StringIO()
    pipe = start(as_json=True, stream=stream, level=logging.WARNING)

    structlog.get_logger().info("hub.ready")
    logging.getLogger("library").info("hello")
    pipe.close()

    assert stream.getvalue() == ""


class Stuck(io.StringIO):
    """A stream whose reader waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.may_go_on = threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        self.may_go_on.wait(PATIENCE_S)
        return super().write(text)


def test_a_slow_reader_costs_records_but_no_time_and_is_told(start: Start) -> None:
    stream = Stuck()
    pipe = start(as_json=True, stream=stream, queue_max=5)
    log = structlog.get_logger()
    log.info("first")
    assert stream.entered.wait(PATIENCE_S)

    for _ in range(20):
        log.info("more")
    assert pipe.dropped == 15
    stream.may_go_on.set()
    pipe.close()

    last = lines(stream)[-1]
    assert (last["event"], last["records"]) == (events.LOG_DROPPED, 15)


def test_a_reader_that_is_gone_does_not_break_the_process(start: Start) -> None:
    stream = io.StringIO()
    pipe = start(as_json=True, stream=stream)
    stream.close()

    structlog.get_logger().info("hub.ready")
    pipe.close()

    assert pipe.dropped == 1


def test_closing_lets_go_of_the_loggers(start: Start) -> None:
    pipe = start(as_json=True, stream=io.StringIO())

    pipe.close()

    assert pipe not in logging.getLogger().handlers


def test_a_secret_is_found_also_where_json_would_escape_it(start: Start) -> None:
    stream = io.StringIO()
    secret = 'pa"ss\\wörd\nof mine'
    pipe = start(as_json=True, stream=stream, secrets=[secret])

    try:
        int(secret)
    except ValueError:
        structlog.get_logger().exception("hub.failed", reason=secret, nested=[{"a": secret}])
    pipe.close()

    (line,) = lines(stream)
    assert (line["reason"], line["nested"]) == (GONE, [{"a": GONE}])
    assert "wörd" not in str(line)
    assert "ValueError" in line["exception"]


def test_a_huge_field_is_cut_and_the_line_stays_json(start: Start) -> None:
    stream = io.StringIO()
    pipe = start(as_json=True, stream=stream)

    structlog.get_logger().info("hub.ready", said="x" * 5_000_000)
    pipe.close()

    (line,) = lines(stream)
    assert len(line["said"]) == FIELD_CHARS_MAX


def test_fields_of_fields_are_never_logged_either(start: Start) -> None:
    stream = io.StringIO()
    pipe = start(as_json=True, stream=stream)

    structlog.get_logger().info("hub.ready", request={"headers": {"Authorization": "x"}})
    pipe.close()

    assert lines(stream)[0]["request"] == {"headers": {"Authorization": GONE}}
