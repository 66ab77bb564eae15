"""From nothing to a merged change: what a newcomer does, on a repository of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import Shell
from tests.journeys.stage import Stage

PROJECT = """\
verify = "env PYTHONPATH=. python3 tests/test_calc.py"
land = "merge"
"""
FILES = {
    ".agentcom.toml": PROJECT,
    "calc.py": "def add(a, b):\n    return a - b\n",
    "tests/test_calc.py": "from calc import add\nassert add(1, 2) == 3\n",
}
PROMPT = r"""Fix add

<<mock:edit>>
```steps
{"say": "The test says what add must do."}
{"write": {"path": "calc.py", "text": "def add(a, b):\n    return a + b\n"}}
{"say": "add adds."}
```
"""


def test_a_newcomer_gets_a_verified_change_into_main(stage: Stage) -> None:
    origin = stage.origin("calc", FILES)
    laptop = stage.computer("laptop")
    (laptop.folder / "fix.md").write_text(PROMPT)

    stage.say("""A project whose test fails. It says itself how work on it is checked, and that
        checked work is merged.""")
    laptop(f"git clone -q {origin} calc")
    laptop.enter("calc")
    laptop("cat calc.py .agentcom.toml")
    stage.say("A hub and an agent, which are asked to fix it.")
    up = laptop("agentcom up --agent tester=testagent")
    assert "repo      calc@main, verify: .agentcom.toml" in up
    laptop("cat ../fix.md")
    watched = laptop("agentcom submit --watch - < ../fix.md")
    assert "landing" in watched
    stage.say("The change is verified and in main.")
    shown = laptop("agentcom task show @last --json state,verified,title")
    assert '"state": "completed"' in shown
    assert '"verified": true' in shown
    laptop("git pull -q; env PYTHONPATH=. python3 tests/test_calc.py; cat calc.py")
    stage.learn(laptop)
    laptop("agentcom down")
    stage.publish("first-task", "A first task on a repository of mine")


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "home", tmp_path)
    yield shell
    shell("down", ok=False)


def test_what_was_submitted_survives_down_and_up(newcomer: Shell) -> None:
    newcomer("up", "--port", "0", "--no-agents")
    task = newcomer("submit", "--no-repo", "<<mock:edit>> Later").out.strip()
    newcomer("down")

    newcomer("up", "--port", "0", "--agent", "tester=testagent")

    assert newcomer("task", "watch", task).out.splitlines()[-1].split()[1] == "completed"
