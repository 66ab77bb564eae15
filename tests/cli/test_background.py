import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentcom.cli import background
from agentcom.cli.errors import CommandFailed


def record(home: Path, **fields: object) -> None:
    (home / "run").mkdir()
    (home / "run" / "hub.json").write_text(json.dumps(fields))


def test_a_recorded_process_is_known_by_its_start_time(home: Path) -> None:
    record(home, pid=os.getpid(), start=background.start_time(os.getpid()), url="x")

    found = background.running("hub")

    assert found is not None
    assert found[1]["url"] == "x"


def test_a_pid_that_another_program_took_over_is_not_ours(home: Path) -> None:
    record(home, pid=os.getpid(), start="12345")

    assert background.running("hub") is None


def test_stopping_what_does_not_run_signals_nobody(home: Path) -> None:
    record(home, pid=os.getpid(), start="12345")

    assert background.stop("hub") is False
    assert not (home / "run" / "hub.json").exists()


def test_each_machine_of_this_computer_has_a_record_of_its_own(home: Path) -> None:
    names = {background.sidecar_name(home / name) for name in ("machine", "one", "two")}

    assert len(names) == 3
    assert "sidecar" in names


def test_a_process_that_runs_is_not_started_twice(home: Path) -> None:
    record(home, pid=os.getpid(), start=background.start_time(os.getpid()))

    with pytest.raises(CommandFailed, match="runs already"):
        background.start("hub", ["hub", "run"])


def test_a_process_that_cannot_start_tells_its_last_words(home: Path) -> None:
    with pytest.raises(CommandFailed, match="did not start"):
        background.start("hub", ["hub", "run", "--host", "not a host", "--port", "0"])


def test_the_token_is_not_written_into_the_record(home: Path) -> None:
    _, ready = background.start("hub", ["hub", "run", "--home", str(home), "--port", "0"])

    assert ready["token"] not in (home / "run" / "hub.json").read_text()
    assert background.stop("hub")


def test_who_interrupts_a_start_leaves_no_process_behind(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    launch = background.launch

    def launched(words: Sequence[str], *, log: Path) -> tuple[subprocess.Popen[bytes], int]:
        child, reading = launch(words, log=log)
        started.append(child)
        return child, reading

    def interrupted(_reading: int, _timeout_s: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(background, "launch", launched)
    monkeypatch.setattr(background, "heard", interrupted)

    with pytest.raises(KeyboardInterrupt):
        background.start("hub", ["hub", "run", "--home", str(home), "--port", "0"])

    assert started[0].poll() is not None
    assert background.recorded() == []


def test_an_error_is_told_without_the_log_before_it(tmp_path: Path) -> None:
    log = tmp_path / "sidecar.log"
    before = "error: an older one (failed)\n"
    log.write_text(before + '{"event": "a"}\nerror: it runs (conflict)\n{"event": "b"}\n')

    assert background.last_words(log, len(before)) == "it runs (conflict)"
    assert background.last_words(log, log.stat().st_size) == "it said nothing"
