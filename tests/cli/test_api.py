"""What commands ask of the hub, and what they say while they wait for it."""

import pytest
import structlog

from agentcom.cli import api


def test_a_lost_connection_is_a_note_and_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    api._told_on_stderr()

    structlog.get_logger().info("connection.lost", reason="the connection broke")
    structlog.get_logger().info("connection.opened")

    assert capsys.readouterr() == ("", "note: the connection broke; trying again\n")
