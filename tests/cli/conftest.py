"""What tests of the command line share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import Here, Shell


@pytest.fixture
def agentcom(home: Path, capsys: pytest.CaptureFixture[str]) -> Here:
    """Commands in this process, with an empty home."""
    return Here(capsys)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A hub with one machine and one test agent, started by `up`."""
    folder = tmp_path_factory.mktemp("fleet")
    shell = Shell(folder / "home", folder)
    shell("up", "--port", "0", "--agent", "tester=testagent:account=acme:ann")
    yield shell
    shell("down", ok=False)


@pytest.fixture(scope="module")
def eve(fleet: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A second person, on a computer of her own."""
    folder = tmp_path_factory.mktemp("eve")
    shell = Shell(folder / "home", folder)
    code = fleet("user", "invite", "eve", "--role", "submitter").out.strip()
    shell("join", code.removeprefix("agentcom join '").removesuffix("'"), "--no-start")
    yield shell
    shell("down", ok=False)
