"""A hub that a person starts by hand."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentcom.cli import background, context
from agentcom.cli.context import Context
from tests.cli.terminal import Here

OTHER = Context(url="https://other.example", token="acm_usr_o", user="bob")


@contextmanager
def by_hand(home: Path, *words: str) -> Iterator[str]:
    """Run a hub in the foreground; yield what it said until it was ready."""
    argv = [sys.executable, "-P", "-m", "agentcom.cli.main", "hub", "run", "--home", str(home)]
    hub = subprocess.Popen([*argv, "--port", "0", *words], stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        assert hub.stderr is not None
        while "\nadmin " not in said and "token" not in said:
            line = hub.stderr.readline()
            assert line, said
            said += line
        yield said
    finally:
        hub.send_signal(signal.SIGTERM)
        hub.communicate(timeout=background.STOP_S)


def test_its_first_admin_is_kept_beside_the_hub_in_use(home: Path) -> None:
    context.save(OTHER)

    with by_hand(home / "byhand", "--admin", "ada") as said:
        made = context.of_hub(home / "byhand")

    assert "agentcom context use" in said
    assert context.load() == OTHER
    assert made is not None
    assert made.user == "ada"


def test_its_first_admin_is_kept_and_used_if_there_is_no_other(home: Path) -> None:
    with by_hand(home / "byhand", "--admin", "ada"):
        assert context.load().user == "ada"


def test_a_rollback_is_accepted_by_a_flag(agentcom: Here) -> None:
    assert "--accept-rollback" in agentcom("hub", "run", "--help").out


def test_a_folder_without_a_hub_has_no_admin(agentcom: Here, home: Path) -> None:
    said = agentcom("hub", "admin-token", "--home", str(home))

    assert said.code == 3
    assert list(home.iterdir()) == []
