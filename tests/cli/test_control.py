"""Commands that steer: pauses, edits, and acts on many tasks."""

import json

import pytest

from agentcom.cli import pausing
from agentcom.cli.errors import Exit
from tests.cli.terminal import Shell

pytestmark = pytest.mark.xdist_group("cli-fleet")
NOBODY = ("submit", "--command", "--no-repo", "--needs", "nobody-has-it", "--", "true")


def fields(fleet: Shell, task: str, *names: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(
        fleet("task", "show", task, "--json", ",".join(names)).out
    )
    return found


def test_a_paused_project_says_so_until_it_is_resumed(fleet: Shell) -> None:
    fleet("pause", "--project", "default", "--reason", "freeze", "--wait")
    task = fleet("submit", "--command", "--no-repo", "--", "true").out.strip()

    assert [row[0] for row in fleet("pause").lines] == ["project:default"]
    assert "paused the project default: freeze" in fleet("task", "why", task).out
    assert fields(fleet, task, "state") == {"state": "queued"}
    fleet("resume", "--project", "default")

    assert fleet("task", "watch", task).out
    assert fleet("pause").out == ""


def test_a_paused_task_shows_by_whom(fleet: Shell) -> None:
    task = fleet(*NOBODY).out.strip()

    fleet("task", "pause", task, "--reason", "later")
    shown = fleet("task", "show", task).out
    fleet("task", "resume", task)
    fleet("task", "cancel", task)

    assert "paused\tby " in shown
    assert ": later" in shown
    assert "queued (paused)" in shown


@pytest.mark.parametrize("words", [("--all", "--project", "default"), ("--pool", "a", "--all")])
def test_one_scope_is_named_at_a_time(fleet: Shell, words: tuple[str, ...]) -> None:
    assert fleet("pause", *words, ok=False).code == Exit.USAGE
    assert fleet("resume", ok=False).code == Exit.USAGE


def test_an_edit_changes_what_is_given_and_refuses_an_old_version(fleet: Shell) -> None:
    task = fleet("submit", "--no-repo", "Train it", "--needs", "gpu").out.strip()
    words = ("--priority", "4", "--needs", "tpu", "--deadline", "2h", "--label", "team=red")

    edited = fleet("task", "edit", task, *words, "--prompt", "Train it well", "--emergency")
    assert "no agent can run it now: agentcom task why" in edited.err
    late = fleet("task", "edit", task, "--title", "x", "--version", "1", ok=False)
    spec = json.loads(fleet("task", "show", task, "--json", "spec").out)["spec"]
    fleet("task", "cancel", task)

    assert (spec["priority"], spec["needs"], spec["deadline_ms"]) == (4, ["tpu"], 7_200_000)
    assert (spec["prompt"], spec["labels"], spec["emergency"]) == (
        *("Train it well", {"team": "red"}, True),
    )
    assert (late.code, spec["title"]) == (Exit.STALE, "Train it")


@pytest.mark.parametrize(
    "words",
    [(), ("--deadline", "soon"), ("--label", "red"), ("--prompt", "a", "-f", __file__)],
)
def test_an_edit_that_is_not_understood_is_refused(fleet: Shell, words: tuple[str, ...]) -> None:
    assert fleet("task", "edit", "@last", *words, ok=False).code == Exit.USAGE


def test_many_are_cancelled_and_retried_by_a_choice(fleet: Shell) -> None:
    tasks = [fleet(*NOBODY).out.strip() for _ in range(3)]
    for task in tasks:
        fleet("task", "edit", task, "--label", "set=one")
    choice = ("--label", "set=one", "--since", "1h", "--mine")

    dry = fleet("task", "cancel", *choice, "--state", "queued", "--dry-run")
    assert (dry.out.split(), dry.err.split()[:6]) == (
        *(tasks, ["cancel", "would", "be", "done", "to", "3"]),
    )
    assert fleet("task", "cancel", *choice, "--reason", "no").out == "cancel\t3 done\t0 skipped\n"
    assert fleet("task", "retry", *choice, "--project", "default").out.startswith("retry\t3 done")
    again = fleet("task", "cancel", *tasks)
    refused = fleet("task", "retry", tasks[0], tasks[0], fleet(*NOBODY).out.strip(), ok=False)
    fleet("task", "cancel", "@last")
    fleet("task", "cancel", tasks[0])

    assert again.out == "cancel\t3 done\t0 skipped\n"
    assert refused.code == Exit.FAILED
    assert "1 done\t1 skipped" in refused.out
    assert "(illegal_transition)" in refused.err


def test_ids_and_a_choice_do_not_go_together(fleet: Shell) -> None:
    assert fleet("task", "cancel", "@last", "--state", "queued", ok=False).code == Exit.USAGE
    assert fleet("task", "retry", ok=False).code == Exit.USAGE


def test_draining_waits_for_what_runs(fleet: Shell) -> None:
    (agent,) = [row[0] for row in fleet("agent", "ls").lines][:1]
    (machine,) = [row[0] for row in fleet("machine", "ls").lines]

    assert fleet("agent", "pause", agent, "--wait").code == Exit.DONE
    assert fleet("agent", "resume", agent).code == Exit.DONE
    assert fleet("machine", "drain", machine, "--wait", "--timeout", "30").code == Exit.DONE
    assert fleet("machine", "drain", machine, "--off").code == Exit.DONE


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "_LOOK_S", 0)


@pytest.mark.usefixtures("at_once")
def test_quiet_is_waited_for_as_long_as_something_runs(capsys: pytest.CaptureFixture[str]) -> None:
    counts = iter([2, 2, 1, 0])

    assert pausing.until_quiet(lambda: next(counts), timeout_s=None) == Exit.DONE
    assert capsys.readouterr().err.splitlines() == ["waits for 2 running", "waits for 1 running"]


@pytest.mark.usefixtures("at_once")
def test_waiting_for_quiet_may_take_too_long() -> None:
    assert pausing.until_quiet(lambda: 1, timeout_s=0) == Exit.TIMEOUT
