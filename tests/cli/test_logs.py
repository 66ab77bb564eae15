"""One story out of the logs, a report without secrets, and a level that changes while it runs."""

import json
import tarfile
from pathlib import Path

import pytest

from agentcom.cli import bundling
from agentcom.model import token_text
from agentcom.model.identity import CredentialKind
from tests.cli.terminal import Here, Shell

pytestmark = pytest.mark.xdist_group("cli-logs")
TOKEN = token_text.compose(CredentialKind.USER, "abcd1234", "s" * 43)


def write(home: Path, name: str, *records: dict[str, object] | str) -> None:
    (home / "logs").mkdir(exist_ok=True, parents=True)
    lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
    (home / "logs" / name).write_text("\n".join(lines) + "\n")


def record(second: int, event: str, **fields: object) -> dict[str, object]:
    return {"timestamp": f"2026-01-01T00:00:{second:02}.000Z", "event": event, **fields}


@pytest.fixture
def logs(home: Path) -> Path:
    write(
        home,
        "hub.log",
        record(1, "task.submitted", cause="c1", task="task-one", level="info"),
        record(2, "task.submitted", cause="c2", task="task-two", level="info"),
        record(5, "task.completed", cause="c1", task="task-one", level="info"),
        record(6, "task.cancelled", cause="c2", task="task-two", request="r9", level="warning"),
    )
    write(
        home,
        "sidecar.log",
        record(3, "attempt.started", cause="c1", task="task-one", level="info"),
        "Traceback (most recent call last):",
        record(4, "report.sent", cause="c1", task="task-one", level="debug"),
    )
    return home


def events(text: str) -> list[str]:
    return [json.loads(line)["event"] for line in text.splitlines()]


@pytest.mark.usefixtures("logs")
def test_the_story_of_a_request_goes_through_all_logs_in_order(agentcom: Here) -> None:
    said = agentcom("logs", "--cause", "c1", "--json")

    assert events(said.out) == [
        "task.submitted",
        "attempt.started",
        "report.sent",
        "task.completed",
    ]


@pytest.mark.usefixtures("logs")
def test_a_later_request_and_a_part_of_a_tasks_id_are_found_too(agentcom: Here) -> None:
    assert events(agentcom("logs", "--cause", "r9", "--json").out) == ["task.cancelled"]
    assert len(events(agentcom("logs", "--task", "two", "--json").out)) == 2
    assert events(agentcom("logs", "--level", "warning", "--json").out) == ["task.cancelled"]


@pytest.mark.usefixtures("logs")
def test_everything_is_shown_with_what_is_no_record(agentcom: Here) -> None:
    said = agentcom("logs")

    assert len(said.out.splitlines()) == 7
    assert "sidecar: Traceback" in said.out
    assert agentcom("logs", "--lines", "1").out.startswith("00:00:06.000 hub")


def test_a_story_that_is_not_here_is_missing(agentcom: Here, logs: Path) -> None:
    said = agentcom("logs", "--cause", "nothing")

    assert (said.code, said.out) == (3, "")


def test_what_steers_a_terminal_does_not_come_out_of_a_log(agentcom: Here, home: Path) -> None:
    write(home, "hub.log", record(1, "task.failed", reason="\x1b[2J\x1b]0;x\x07"), "\x1b[31mred")

    assert "\x1b" not in agentcom("logs").out


# The archive --------------------------------------------------------------------------------------


def members(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {}
        for entry in archive:
            file = archive.extractfile(entry)
            assert file is not None
            found[entry.name.removeprefix("agentcom-report/")] = file.read().decode()
    return found


def test_a_report_is_made_without_a_hub_and_says_what_is_missing(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "report.tar.gz"

    bundling.write(target, [{"check": "git", "state": "ok", "found": "2.40", "fix": ""}])

    said = capsys.readouterr()
    found = members(target)
    assert said.out == f"{target}\n"
    assert "status.json" in said.err
    assert "left out: " in said.err
    assert {"about.json", "doctor.json", "hub-settings.json", "logs/hub.jsonl"} <= set(found)
    assert "status.json" not in found
    assert json.loads(found["about.json"])["schema"] is None
    assert json.loads(found["doctor.json"])[0]["check"] == "git"
    assert target.stat().st_mode & 0o777 == 0o600
    assert all(name in said.err for name in found)


def test_a_report_has_no_secrets(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_DEPLOY_TOKEN", 'of"this\\computer')
    write(
        logs,
        "hub.log",
        record(1, "x.y", reason=f"{TOKEN} ghp_{'a' * 36}", nested={"a": ['of"this\\computer']}),
        f"a crash: postgres://ada:hunter2hunter@db/x {TOKEN} at {Path.home()}",
    )
    (logs / "hub").mkdir()
    (logs / "hub" / "hub.toml").write_text('public_url = "https://ada:hunter2hunter@hub.example"\n')

    bundling.write(tmp_path / "r.tar.gz", [])

    text = json.dumps(members(tmp_path / "r.tar.gz"))
    for secret in (TOKEN, "ghp_aaa", "hunter2", "this\\\\computer", str(Path.home())):
        assert secret not in text
    assert "acm_usr_abcd1234_[redacted]" in text


def test_what_the_scanner_still_objects_to_stays_out(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundling, "redact", lambda text, _secrets=(): text)
    monkeypatch.setattr(bundling, "cleaned", lambda value, *_: value)
    write(logs, "hub.log", f"ghp_{'a' * 36}")

    bundling.write(tmp_path / "r.tar.gz", [])

    assert "logs/hub.jsonl" not in members(tmp_path / "r.tar.gz")
    assert "GitHub token" in capsys.readouterr().err


def test_a_report_replaces_no_file(agentcom: Here, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("mine")

    assert agentcom("doctor", "--quick", "--bundle", str(tmp_path / "r")).code == 5
    assert (tmp_path / "r").read_text() == "mine"


# A fleet that runs --------------------------------------------------------------------------------


def test_a_fleet_tells_one_story_changes_its_level_and_reports_itself(
    fleet: Shell, tmp_path: Path
) -> None:
    fleet("submit", "--no-repo", "<<mock:edit>> Try", "--watch")
    story = fleet("logs", "--task", "@last", "--json").out
    records = [json.loads(line) for line in story.splitlines()]

    causes = {one["cause"] for one in records}
    assert len(causes) == 1, records
    parts = {one["part"] for one in records}
    assert parts == {"hub", "sidecar"}
    assert {"task.submitted", "attempt.started", "task.completed"} <= {
        one["event"] for one in records
    }
    by_cause = fleet("logs", "--cause", causes.pop(), "--json", "--lines", "10000").out
    assert set(story.splitlines()) <= set(by_cause.splitlines())

    missing = fleet("task", "show", "nothing-like-that", ok=False)
    (line,) = [one for one in missing.err.splitlines() if one.startswith("cause: ")]
    refused = fleet("logs", "--cause", line.split()[1], "--json").out
    assert [json.loads(one)["code"] for one in refused.splitlines()] == ["not_found"]

    shown = fleet("hub", "log-level", "debug", "--for", "5m", "--logger", "agentcom.transport")
    assert "agentcom.transport: debug" in shown.out
    fleet("task", "ls")
    assert "request.answered" in fleet("logs", "--level", "debug").out
    assert "as usual" in fleet("hub", "log-level", "usual", "--logger", "agentcom.transport").out
    assert fleet("hub", "log-level", "debug", "--for", "2d", ok=False).code == 2

    fleet("doctor", "--quick", "--bundle", str(tmp_path / "r.tar.gz"), ok=False)
    found = members(tmp_path / "r.tar.gz")
    assert "agentcom_build_info" in found["metrics.txt"]
    assert json.loads(found["status.json"])["state"] == "ready"
    assert json.loads(found["about.json"])["schema"] > 0
    token = json.loads((fleet.home / "context.json").read_text())["hubs"][0]["token"]
    assert token not in json.dumps(found)


def test_a_machine_can_be_told_to_say_more(fleet: Shell) -> None:
    (machine,) = json.loads(fleet("machine", "ls", "--json", "name").out)
    fleet("hub", "log-level", "debug", "--machine", machine["name"])
    fleet("submit", "--no-repo", "<<mock:edit>> Again", "--watch")

    levels = {json.loads(one)["level"] for one in fleet("logs", "--json").out.splitlines()}
    fleet("hub", "log-level", "usual", "--machine", machine["name"])
    assert "log.level" in fleet("logs", "--level", "warning").out
    assert levels
    assert fleet("hub", "log-level", "debug", "--machine", "nobody", ok=False).code == 3
