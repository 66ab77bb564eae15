import resource
import subprocess
import sys
from collections.abc import Sequence

import pytest

from agentcom.cli.root import COMMANDS
from tests.cli.terminal import Here

HEAVY = {"asyncio", "httpx", "uvicorn", "starlette", "msgspec", "rich", "websockets", "structlog"}
RATIO_MAX = 15
"""Of the bare interpreter: a ratio, since absolute times move with the machine."""
RUNS = 5


def loaded(words: Sequence[str]) -> set[str]:
    program = (
        "import sys; from agentcom.cli import errors; from agentcom.cli.root import root;"
        f"errors.run(root, {list(words)!r}); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stderr.split()}


def spent_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cheapest_s(*argv: str) -> float:
    """Return the processor time of a run: others who compute at once count less in it."""
    times = []
    for _ in range(RUNS):
        before = spent_s()
        subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL)
        times.append(spent_s() - before)
    return min(times)


@pytest.mark.parametrize(
    "words", [["--help"], ["task", "--help"], ["submit", "--help"]], ids=" ".join
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    assert loaded(words) & HEAVY == set()


def test_help_comes_within_its_budget() -> None:
    bare = cheapest_s("-P", "-c", "pass")

    assert cheapest_s("-P", "-m", "agentcom.cli.main", "--help") < RATIO_MAX * bare


def test_every_command_in_the_list_exists_and_has_help(agentcom: Here) -> None:
    pages = {name: agentcom(name, "--help") for name in COMMANDS}

    assert {
        name for name, page in pages.items() if page.code != 0 or "Usage" not in page.out
    } == set()


def test_the_list_of_commands_names_each_of_them(agentcom: Here) -> None:
    page = agentcom("--help")

    assert page.code == 0
    assert [name for name in COMMANDS if f"\n  {name}" not in page.out] == []


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["subimt"], "agentcom submit"),
        (["task", "lst"], "agentcom task ls"),
        (["xyzzy"], "agentcom --help"),
    ],
    ids=["top", "group", "far"],
)
def test_an_unknown_verb_names_the_nearest(agentcom: Here, words: list[str], hint: str) -> None:
    said = agentcom(*words)

    assert said.code == 2
    assert said.err.splitlines()[0].endswith("(usage)")
    assert said.err.splitlines()[1] == f"try: {hint}"
