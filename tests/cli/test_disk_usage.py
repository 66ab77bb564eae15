"""`agentcom machine disk`: what lies where, on a terminal and for programs."""

import json
from pathlib import Path

import pytest

from agentcom.cli import disk_usage
from agentcom.model import errors
from tests.sidecar.sidecar_world import config


def test_what_a_machine_keeps_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = config(tmp_path).home
    (home.scratch("t1") / "folder").mkdir(parents=True)
    (home.scratch("t1") / "folder/file").write_bytes(b"x" * 3_000_000)

    disk_usage.show(home.root, as_json=("kind", "name", "path"))
    listed = json.loads(capsys.readouterr().out)
    disk_usage.show(home.root, as_json=None)
    said = capsys.readouterr()

    assert listed == [{"kind": "scratch", "name": "t1", "path": str(home.scratch("t1"))}]
    assert said.out.startswith("scratch\t2.9 MiB\t")
    assert "that it may use" in said.err


def test_a_computer_without_a_machine_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="agentcom join"):
        disk_usage.show(tmp_path, as_json=None)


@pytest.mark.parametrize(
    ("size_bytes", "says"),
    [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_024, "1.0 KiB"),
        (3 << 30, "3.0 GiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_sizes_are_said_as_people_read_them(size_bytes: int, says: str) -> None:
    assert disk_usage.size(size_bytes) == says
