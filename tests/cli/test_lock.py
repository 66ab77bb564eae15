"""People lock names and files in a terminal, wait for each other, and keep tasks waiting."""

import json
import subprocess
import sys

import pytest

from agentcom.cli.errors import Exit
from agentcom.testing.waiting import PATIENCE_S
from tests.cli.terminal import Shell

pytestmark = pytest.mark.xdist_group("cli-fleet")
REPO = "https://git.example/r.git"


def test_a_lock_is_taken_shown_renewed_and_given_back(fleet: Shell) -> None:
    lock, state = fleet("lock", "take", "deploy", "--ttl", "5m").out.strip().split("\t")
    again = json.loads(fleet("lock", "take", "deploy", "--json", "id,held,number").out)
    listed = fleet("lock", "ls", "--mine").lines

    assert (again["id"], again["held"]) == (lock, True)
    assert state == f"held, number {again['number']}"
    assert [row[0] for row in listed] == [lock]
    assert fleet("lock", "release", lock[-6:]).out == f"{lock}\treleased\n"
    assert fleet("lock", "ls").out == ""
    assert fleet("lock", "release", lock, ok=False).code == Exit.MISSING


def test_who_waits_for_a_lock_gets_it_when_it_is_given_back(fleet: Shell, eve: Shell) -> None:
    mine = fleet("lock", "take", "deploy").out.split("\t")[0]
    waits = eve("lock", "take", "deploy", ok=False)
    words = ("lock", "take", "deploy", "--wait", "40s")
    waiting = subprocess.Popen(
        [sys.executable, "-P", "-m", "agentcom.cli.main", *words],
        env=eve.variables(),
        stdout=subprocess.PIPE,
        text=True,
    )

    assert waits.code == Exit.PENDING
    assert "waits for user:" in waits.out
    assert eve("lock", "release", mine, "--force", ok=False).code == Exit.NOT_ALLOWED
    fleet("lock", "release", mine)
    out, _ = waiting.communicate(timeout=PATIENCE_S)
    assert (waiting.returncode, out.split("\t")[0]) == (0, waits.out.split("\t")[0])
    fleet("lock", "release", waits.out.split("\t")[0], "--force")
    assert "was broken by" in eve("msg", "read").out


def test_a_circle_is_refused_and_shown(fleet: Shell, eve: Shell) -> None:
    fleet("lock", "take", "one")
    eve("lock", "take", "two")
    assert fleet("lock", "take", "two", ok=False).code == Exit.PENDING

    refused = eve("lock", "take", "one", ok=False)

    assert refused.code == Exit.STALE
    assert "user:eve would wait for user:" in refused.err
    for shell in (fleet, eve):
        for row in shell("lock", "ls", "--mine").lines:
            shell("lock", "release", row[0])


def test_a_lock_on_files_keeps_a_task_that_claims_them_waiting(fleet: Shell) -> None:
    lock = fleet("lock", "take", "src/**", "--repo", REPO).out.split("\t")[0]
    words = ("--repo", REPO, "--base", "main", "--scope", "src/a.py")
    task = fleet("submit", *words, "Fix it").out.strip()

    assert "locked by user:" in fleet("task", "why", task).out
    assert ["lock", lock] == fleet("task", "waits").lines[0][1:3]
    fleet("task", "cancel", task)
    fleet("lock", "release", lock)
