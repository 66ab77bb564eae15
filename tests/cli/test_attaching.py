import io
import os
from collections.abc import Iterator
from typing import Any, cast

import pytest

from agentcom.cli.attaching import say_lines
from agentcom.client.hub import HubClient
from agentcom.model.errors import NotFound
from agentcom.protocol import calls, told


class Hub:
    """Takes what is said to a task."""

    def __init__(self) -> None:
        self.http = self
        self.said: list[calls.MessageSend] = []

    async def do(self, call: calls.MessageSend, _kind: type, key: str) -> Any:
        assert key
        if call.body == "too late":
            raise NotFound("it is over")
        self.said.append(call)
        return told.Sent(message="m1", thread="m1", to=())  # type: ignore[arg-type] # NewTypes of str


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield writing


async def test_each_line_is_said_and_a_refusal_ends_nothing(
    keyboard: int, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = Hub()
    os.write(keyboard, "grüß Gott\n\n  \ntoo late\nlast, without an end".encode())
    os.close(keyboard)

    await say_lines(cast("HubClient", hub), "t1")

    assert [call.body for call in hub.said] == ["grüß Gott", "last, without an end"]
    assert {call.to for call in hub.said} == {("task:t1",)}
    assert "not said: it is over" in capsys.readouterr().err


async def test_where_nobody_types_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    monkeypatch.setattr("sys.stdin", io.StringIO("a file"))

    await say_lines(cast("HubClient", hub), "t1")

    assert hub.said == []
