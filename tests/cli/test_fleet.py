"""Commands against a real hub and a real sidecar, as a script in a pipe sees them."""

import json
import shutil
from pathlib import Path

import pytest

from agentcom.cli import background
from agentcom.testing.waiting import PATIENCE_S
from tests.cli.terminal import Shell

pytestmark = pytest.mark.xdist_group("cli-fleet")
EDIT = "<<mock:edit>> Write the file"
FAIL = "<<mock:refuse>> Do what you must not"


def submit(fleet: Shell, *words: str) -> str:
    return fleet("submit", "--no-repo", *words).out.strip()


def test_up_again_changes_nothing(fleet: Shell) -> None:
    before = json.loads(fleet("status", "--json", "hub_pid,sidecar_pid").out)

    again = fleet("up", "--port", "0")

    assert "the hub runs" in again.err
    assert json.loads(fleet("status", "--json", "hub_pid,sidecar_pid").out) == before


def test_the_token_never_shows_in_logs(fleet: Shell) -> None:
    (known,) = json.loads((fleet.home / "context.json").read_text())["hubs"]
    token = known["token"]

    logs = [path.read_text() for path in (fleet.home / "logs").iterdir()]

    assert [log for log in logs if token in log] == []


def test_watching_ends_with_the_verdict(fleet: Shell) -> None:
    said = fleet("submit", "--no-repo", EDIT, "--watch")

    kinds = [line.split()[1] for line in said.out.splitlines()[1:]]
    assert kinds[0] == "submitted"
    assert kinds[-1] == "completed"


def test_a_failed_task_makes_watching_fail(fleet: Shell) -> None:
    said = fleet("submit", "--no-repo", FAIL, "--watch", ok=False)

    assert said.code == 1
    assert "(refused)" in said.out


def test_a_listing_in_a_pipe_has_tabs_and_no_head(fleet: Shell) -> None:
    task = submit(fleet, EDIT, "--watch").splitlines()[0]

    (row,) = [row for row in fleet("task", "ls").lines if row[0] == task]

    assert [row[0], row[1], row[2], row[3], row[5]] == [
        task, "completed (unverified)", "tester", "1", EDIT,
    ]  # fmt: skip


def test_a_fragment_and_last_name_the_same_task(fleet: Shell) -> None:
    task = submit(fleet, EDIT)

    shown = [fleet("task", "show", name, "--json", "id").out for name in ("@last", task[-8:], task)]

    assert shown == [f'{{"id":"{task}"}}\n'] * 3


def test_a_task_that_is_not_there_is_missing(fleet: Shell) -> None:
    said = fleet("task", "show", "zzzzzz", ok=False)

    assert said.code == 3
    assert said.err.startswith("error: there is no such task")


def test_what_changes_a_task_prints_it_as_json(fleet: Shell) -> None:
    fleet("submit", "--command", "--no-repo", "--needs", "nobody-has-it", "--", "true")

    cancelled = fleet("task", "cancel", "@last", "--json", "state").out
    again = json.loads(fleet("task", "retry", "@last", "--json").out)
    fleet("task", "cancel", "@last")

    assert json.loads(cancelled) == {"state": "cancelled"}
    assert again["state"] == "queued"
    assert again["emergency"] is False


def test_what_nobody_can_run_is_explained(fleet: Shell) -> None:
    said = fleet("submit", "--no-repo", "Train it", "--needs", "gpu")

    assert "no agent can run it now" in said.err
    assert "nobody has: gpu" in fleet("task", "why", "@last").out
    assert fleet("task", "watch", "@last", "--timeout", "0.2", ok=False).code == 124
    assert fleet("task", "cancel", "@last").out.endswith("\tcancelled\n")
    assert fleet("task", "watch", "@last", ok=False).code == 1


def test_a_repeat_with_the_same_key_is_the_same_task(fleet: Shell) -> None:
    assert submit(fleet, EDIT, "--key", "once") == submit(fleet, EDIT, "--key", "once")


def test_a_file_submits_a_graph(fleet: Shell) -> None:
    path = fleet.folder / "tasks.json"
    path.write_text(
        json.dumps([
            {"ref": "a", "title": "First", "prompt": EDIT},
            {"title": "Second", "prompt": EDIT, "depends_on": ["a"]},
        ])
    )  # fmt: skip

    said = fleet("submit", "--no-repo", "-f", str(path), "--watch")

    assert said.out.splitlines()[-1].split()[1] == "completed"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("-f", "missing.toml"), 2, "missing.toml"),
        (("--verify", "make && true", "x"), 2, "error: verify: no shell runs it"),
        (("--verify", "", "x"), 2, "error: verify: an empty command"),
    ],
)
def test_a_submit_that_cannot_be_meant_is_refused(
    fleet: Shell, words: tuple[str, ...], code: int, said: str
) -> None:
    refused = fleet("submit", "--no-repo", *words, ok=False)

    assert refused.code == code
    assert said in refused.err


def test_a_submitted_task_is_told_although_it_cannot_be_remembered(
    fleet: Shell, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(fleet.home / "context.json", home)
    (home / ".last-task.new").mkdir()

    said = Shell(home, tmp_path)("submit", "--command", "--no-repo", "--", "true")

    assert len(said.out.strip()) == 26
    assert "@last does not name it" in said.err


def test_logs_and_events_of_a_task_are_there(fleet: Shell) -> None:
    submit(fleet, EDIT, "--watch")

    assert "Done: hello.txt written." in fleet("task", "logs", "@last").out
    assert fleet("task", "events", "@last").lines[-1][1] == "completed"


def test_the_log_of_a_hostile_agent_does_not_steer_the_terminal(fleet: Shell) -> None:
    echo = ("printf", r"\033]0;stolen\007\033[2Jplain\n")
    fleet("submit", "--command", "--no-repo", "--watch", "--", *echo)

    assert fleet("task", "logs", "@last").out == "plain\n"


def test_a_failure_is_told_once_and_not_with_what_comes_after_it(fleet: Shell) -> None:
    twice = ("sh", "-c", "test -e done || { touch done; echo broken; exit 3; }")
    fleet("submit", "--command", "--no-repo", "--", *twice)
    fleet("task", "watch", "@last")

    rows = fleet("task", "events", "@last").lines
    assert rows[-1][1] == "completed"
    assert [row[1] for row in rows if "broken" in row[2]] == ["failed"]


def test_a_task_without_a_result_is_not_called_unverified(fleet: Shell) -> None:
    fleet("submit", "--command", "--no-repo", "--needs", "nobody-has-it", "--", "true")

    assert "verified" not in fleet("task", "show", "@last").out
    fleet("task", "cancel", "@last")


def test_a_paused_agent_says_so(fleet: Shell) -> None:
    fleet("agent", "pause", "tester")
    paused = fleet("agent", "ls").lines[0][1]
    fleet("agent", "resume", "tester")

    assert (paused, fleet("agent", "ls").lines[0][1]) == ("paused", "idle")


def test_a_wrong_token_is_not_allowed(fleet: Shell) -> None:
    said = fleet("task", "ls", ok=False, AGENTCOM_TOKEN="acm_usr_wrong")

    assert said.code == 4
    assert "(not_authenticated)" in said.err


def test_rotating_a_token_of_the_environment_leaves_the_kept_one_alone(fleet: Shell) -> None:
    before = (fleet.home / "context.json").read_text()
    token = fleet("token", "create", "--role", "admin").out.strip()

    new = fleet("token", "rotate", AGENTCOM_TOKEN=token).out.strip()

    assert (fleet.home / "context.json").read_text() == before
    assert fleet("task", "ls", AGENTCOM_TOKEN=new).code == 0


def test_tokens_are_listed_without_secrets_and_can_be_revoked(fleet: Shell) -> None:
    token = fleet("token", "create", "--role", "viewer", "--note", "robot").out.strip()
    (row,) = [row for row in fleet("token", "ls").lines if row[-1] == "robot"]

    refused = fleet("submit", "--no-repo", "x", ok=False, AGENTCOM_TOKEN=token)
    fleet("token", "revoke", row[0])

    assert token not in "".join(row)
    assert refused.code == 4
    assert fleet("task", "ls", ok=False, AGENTCOM_TOKEN=token).code == 4


def test_results_name_the_machine_as_the_list_of_machines_does(fleet: Shell) -> None:
    task = submit(fleet, EDIT)
    fleet("task", "watch", task)
    (machine,) = fleet("machine", "ls").lines

    (result,) = fleet("task", "results", task).lines

    assert result[1] == machine[0]


def test_what_a_failed_check_printed_can_be_read(fleet: Shell) -> None:
    checks = ("--verify", "test -s hello.txt", "--verify", "ls there-is-no-such-file")
    task = submit(fleet, *checks, EDIT)
    assert background.wait_for(
        lambda: bool(fleet("task", "results", task).lines), timeout_s=PATIENCE_S
    ), "the first attempt has ended"
    fleet("task", "cancel", task)

    said = fleet("task", "results", task, "--checks").out

    passed, failed, *printed = said.splitlines()
    assert passed == "test -s hello.txt: passed"
    assert failed.startswith("ls there-is-no-such-file: failed, exit code ")
    assert "there-is-no-such-file" in printed[0]


def test_a_cancel_that_is_too_late_says_so_in_words(fleet: Shell) -> None:
    task = submit(fleet, EDIT)
    fleet("task", "watch", task)

    refused = fleet("task", "cancel", task, ok=False)

    assert refused.code == 5
    assert "a task that is completed cannot take a cancel" in refused.err


def test_a_code_that_was_used_up_is_listed_as_such(fleet: Shell, tmp_path: Path) -> None:
    code = fleet("user", "invite", "eve").out.strip().removeprefix("agentcom join '")[:-1]
    Shell(tmp_path / "eve", tmp_path)("join", code)

    rows = [row for row in fleet("token", "ls").lines if row[1] == "enr" and row[-1] == "eve"]

    assert [row[-2] for row in rows] == ["used up"]
    ages = json.loads(fleet("token", "ls", "--json", "created_at").out)
    assert ages == sorted(ages, key=lambda row: row["created_at"])


def test_a_rotated_token_is_used_from_then_on(fleet: Shell) -> None:
    before = (fleet.home / "context.json").read_text()

    fleet("token", "rotate")

    assert (fleet.home / "context.json").read_text() != before
    assert fleet("task", "ls").code == 0


def test_who_locks_themselves_out_is_asked_first_and_told_the_way_back(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home", tmp_path)
    shell("up", "--port", "0", "--agent", "alone=testagent")
    try:
        mine = next(row[0] for row in shell("token", "ls").lines if row[1] == "usr")
        asked = shell("token", "revoke", mine, ok=False)
        shell("token", "revoke", mine, "--yes")
        out = shell("up", "--agent", "alone=testagent", ok=False)
    finally:
        shell("down")
    shell("hub", "admin-token")

    assert (asked.code, out.code) == (2, 4)
    assert "agentcom hub admin-token" in out.err
    assert shell("up", "--port", "0", "--agent", "alone=testagent").code == 0
    shell("down")


def test_limits_are_set_listed_and_removed(fleet: Shell) -> None:
    fleet("limit", "set", "key:db", "--at-once", "0", "--rate", "10/1h")
    task = submit(fleet, EDIT, "--limit-key", "db")

    (row,) = json.loads(fleet("limit", "ls", "--json", "scope,concurrency,rate,waiting").out)
    why = json.loads(fleet("task", "why", task, "--json", "summary").out)["summary"]
    fleet("limit", "rm", "key:db")

    assert row == {"scope": "key:db", "concurrency": 0, "rate": 10, "waiting": 1}
    assert why == "the limit of key:db is full: 0 of 0 run"
    assert fleet("limit", "ls").out == ""
    assert fleet("limit", "rm", "key:db", ok=False).code == 3


def test_a_unique_key_is_had_by_one_live_task(fleet: Shell) -> None:
    fleet("limit", "set", "key:still", "--at-once", "0")
    words = ("submit", EDIT, "--limit-key", "still", "--unique-key", "nightly")
    (one,) = fleet(*words).lines[0]
    again = fleet(*words, ok=False)
    fleet("task", "cancel", one)
    after = fleet(*words)
    fleet("task", "cancel", after.lines[0][0])
    fleet("limit", "rm", "key:still")

    assert (again.code, one in again.err) == (5, True)
    assert after.code == 0


def test_who_waits_for_whom_is_listed_and_drawn(fleet: Shell) -> None:
    fleet("limit", "set", "key:waits", "--at-once", "0")
    one = submit(fleet, EDIT, "--limit-key", "waits")
    two = submit(fleet, 'Say "hi" \\ <<mock:say>>', "--depends-on", one)

    rows = json.loads(fleet("task", "waits", "--json", "task,by,what,on").out)
    lines = fleet("task", "waits").lines
    drawn = fleet("task", "waits", "--dot").out
    fleet("limit", "rm", "key:waits")

    assert {"task": one, "by": "limit", "what": "key:waits", "on": []} in rows
    assert {"task": two, "by": "dependency", "what": "", "on": [one]} in rows
    assert ["limit", "key:waits"] in [line[1:3] for line in lines]
    assert f'  "{two}" -> "{one}" [label="dependency"];' in drawn.splitlines()
    assert f'  "{one}" -> "key:waits" [label="limit"];' in drawn.splitlines()
    assert drawn.startswith("digraph waits {\n")
    assert drawn.endswith("}\n")
    assert '\\"hi\\"' in drawn


def test_a_failed_task_shows_its_last_words(fleet: Shell) -> None:
    steps = '{"say": "The parser is next."}\n{"error": "refused"}'
    prompt = f"<<mock:edit>>\n```steps\n{steps}\n```"
    task = fleet("submit", "--no-repo", prompt, "--watch", ok=False).lines[0][0]

    assert ["note", "The parser is next."] in fleet("task", "show", task).lines
    assert json.loads(fleet("task", "show", task, "--json", "note").out) == {
        "note": "The parser is next."
    }


def test_a_limit_without_sense_is_a_usage_error(fleet: Shell) -> None:
    assert fleet("limit", "set", "key:db", "--rate", "often", ok=False).code == 2
    said = fleet("limit", "set", "nothing:db", "--at-once", "1", ok=False)

    assert said.code == 2
    assert "write one of project:NAME" in said.err


LIMIT = """<<mock:quota>>
```steps
{"limit": "You've hit your usage limit. Try again in 2h 5m."}
```
"""


def account(fleet: Shell, state: str) -> dict[str, object]:
    """Return the row of the account once it is in a state."""
    row: dict[str, object] = {}

    def holds() -> bool:
        row.update(json.loads(fleet("account", "ls", "--json").out)[0])
        return row["state"] == state

    assert background.wait_for(holds, timeout_s=PATIENCE_S), row
    return row


def test_an_account_without_quota_is_shown_named_and_opened(fleet: Shell, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.json"
    tasks.write_text(json.dumps([{"title": "t", "prompt": LIMIT, "on_quota": "wait"}]))
    task = fleet("submit", "--no-repo", "-f", str(tasks)).out.strip()

    parked = account(fleet, "parked")
    why = fleet("task", "why", submit(fleet, EDIT)).out
    fleet("task", "cancel", task)
    fleet("account", "resume", "acme:ann")

    assert (parked["id"], parked["agents"]) == ("acme:ann", ["tester"])
    assert "account acme:ann is out of quota until" in why
    assert "tester\tquota\t" in why
    account(fleet, "open")


def test_an_account_that_is_not_there_is_missing(fleet: Shell) -> None:
    assert fleet("account", "resume", "nobody", ok=False).code == 3


def test_what_was_spent_is_added_up(fleet: Shell) -> None:
    task = submit(fleet, EDIT, "--watch").splitlines()[0]

    (cost,) = json.loads(fleet("task", "show", task, "--json", "cost").out).values()
    rows = json.loads(fleet("cost", "--by", "agent", "--json", "name,turns,unpriced").out)
    (total,) = fleet("cost", "--by", "project").lines

    assert (cost["turns"], cost["unpriced"]) == (1, 1)
    assert [row["name"] for row in rows] == ["tester"]
    assert total[0] == "default"
    assert total[-1] == f"{rows[0]['unpriced']} unpriced"
    assert "nothing was spent" in fleet("cost", "--since", "0s").err


def test_a_budget_is_set_shown_and_removed_and_keeps_tasks_waiting(fleet: Shell) -> None:
    spent = submit(fleet, EDIT, "--watch", "--budget", "cost=1,turns=5").splitlines()[0]
    assert json.loads(fleet("task", "show", spent, "--json", "spec").out)["spec"]["budget"] == {
        "cost_micros": 1_000_000,
        "turns": 5,
    }

    fleet("budget", "set", "agent:tester", "--per", "day", "--limit", "turns=1")
    submit(fleet, EDIT, "--watch")
    waits = submit(fleet, EDIT)
    said = fleet("task", "why", waits).out
    (row,) = json.loads(fleet("budget", "ls", "--json", "scope,period,spent,closed").out)

    assert "budget\tthe budget of agent:tester by the day is used up: 1 of 1 turns" in said
    assert (row["scope"], row["period"], row["spent"]["turns"]) == ("agent:tester", "day", 1)
    assert row["closed"] in said
    fleet("budget", "rm", "agent:tester", "--per", "day")
    assert fleet("task", "watch", waits).code == 0
    assert fleet("budget", "ls").out == ""
    assert fleet("budget", "rm", "agent:tester", ok=False).code == 3
