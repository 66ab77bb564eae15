"""A journey that fails leaves nothing behind."""

from pathlib import Path

import pytest

from agentcom.cli import background
from agentcom.testing.waiting import PATIENCE_S
from tests.journeys.stage import Stage


def test_a_command_that_nobody_waited_for_is_ended(tmp_path: Path) -> None:
    stage = Stage(tmp_path, publishing=False)
    box = stage.computer("box")
    box.begin("echo $$ > pid; sleep 600")
    written = box.folder / "pid"
    assert background.wait_for(
        lambda: written.exists() and bool(written.read_text()), timeout_s=PATIENCE_S
    )

    stage.close()

    assert background.start_time(int(written.read_text())) == ""


def test_an_exit_code_that_was_not_told_beforehand_ends_the_journey(tmp_path: Path) -> None:
    box = Stage(tmp_path, publishing=False).computer("box")

    with pytest.raises(AssertionError, match="exit 3"):
        box("exit 3")
    assert box("exit 3", code=3) == ""
