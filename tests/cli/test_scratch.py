"""What is removed in the end was made in the beginning."""

from pathlib import Path

import pytest

from tests.cli.terminal import Here


@pytest.mark.parametrize("command", ["demo", "chaos"])
def test_a_folder_with_something_in_it_is_left_alone(
    agentcom: Here, tmp_path: Path, command: str
) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("keep me")

    said = agentcom(command, "--folder", str(tmp_path))

    assert said.code == 2
    assert "is not empty" in said.err
    assert mine.read_text() == "keep me"
