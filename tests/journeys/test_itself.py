"""AgentCom works on AgentCom: a change of its own code is made, checked and merged by itself."""

import json
import subprocess

import pytest

from tests.journeys.stage import PAGES, Stage

ROOT = PAGES.parents[1]
PROJECT = """\
verify = [
  "ruff check src tests/cli",
  { name = "tests", run = "env PYTHONPATH=src python3 -m pytest -q tests/cli/test_output.py" },
]
land = "merge"
"""
MORE = r'\n\ndef test_weeks() -> None:\n    assert output.span(21 * 86_400_000) == "3 w"\n'
STEPS = (
    {"say": "A week is one more unit of output.span."},
    {"shell": ["sed", "-i.old", 's/^_UNITS.*((/&604_800, "w"), (/', "src/agentcom/cli/output.py"]},
    {"shell": ["rm", "src/agentcom/cli/output.py.old"]},
    {"shell": ["sh", "-c", f"printf '{MORE}' >> tests/cli/test_output.py"]},
    {"commit": "Tell ages of weeks in weeks"},
    {"say": "Ages of weeks are told in weeks; a test says so."},
)


def own_files() -> dict[str, str | bytes]:
    """Return this project as it is in this folder."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the repository of this project")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    names = filter(None, listed.stdout.split("\0"))
    return {name: (ROOT / name).read_bytes() for name in names if (ROOT / name).is_file()}


@pytest.mark.slow
def test_a_change_of_this_project_lands_through_this_project(stage: Stage) -> None:
    origin = stage.origin("agentcom", {**own_files(), ".agentcom.toml": PROJECT})
    laptop = stage.computer("laptop")
    lines = "\n".join(json.dumps(step) for step in STEPS)
    prompt = f"Tell ages of weeks in weeks\n\n<<mock:edit>>\n```steps\n{lines}\n```\n"
    (laptop.folder / "weeks.md").write_text(prompt)

    stage.say("""A clone of this project's repository, whose base says how work is checked: by its
        linter and by tests. What passes is merged.""")
    laptop(f"git clone -q {origin} agentcom")
    laptop.enter("agentcom")
    laptop("cat .agentcom.toml")
    assert "repo      agentcom@main, verify: .agentcom.toml" in laptop(
        "agentcom up --agent coder=testagent"
    )
    stage.say("""A script plays the agent. What it does is real: it edits the source, adds a test,
        and commits.""")
    laptop("cat ../weeks.md")
    watched = laptop("agentcom submit --watch - < ../weeks.md")
    assert watched.splitlines()[-1].split()[1] == "completed"
    stage.say("Main has moved, and its tests pass, the new one too.")
    assert laptop("git pull -q; git log -1 --format=%s").strip() == "Tell ages of weeks in weeks"
    laptop("git show --stat --format=")
    tests = "env PYTHONPATH=src python3 -m pytest -q tests/cli/test_output.py"
    assert laptop(f"{tests} -k weeks | grep -o '1 passed'").strip() == "1 passed"
    laptop("agentcom task show @last --json state,verified")
    stage.learn(laptop)
    stage.publish("itself", "AgentCom works on AgentCom")
