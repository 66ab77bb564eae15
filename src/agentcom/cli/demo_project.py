"""The demo's project: a small calculator whose tests fail, and the tasks that make them pass.

The scripts of the tasks stand in for a model; what they do (edit, test, commit) is real.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from agentcom.model.graph import Dependency
from agentcom.model.task import TaskSpec
from agentcom.testing import scenario
from agentcom.testing.scenario import Commit, Say, Shell, Step, WaitFor, Write

BRANCH: Final = "main"
BEGUN: Final = "notes/parser-begun.txt"
"""Written once, by whoever begins the parser: what shows that a later attempt went on from it."""
VICTIM: Final = "t3"
PARSER: Final = "calc/parser.py"

_IDENTITY: Final = ("-c", "user.name=Demo", "-c", "user.email=demo@agentcom.invalid")
_BEGIN: Final = (
    "import pathlib, uuid; p = pathlib.Path('notes/parser-begun.txt');"
    " p.parent.mkdir(exist_ok=True); p.exists() or p.write_text(uuid.uuid4().hex + '\\n')"
)

_FILES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".gitignore": "__pycache__/\n",
        "README.md": "# calc\n\nA calculator for the command line.\n",
        "CHANGES.md": "# Changes\n",
        "calc/__init__.py": "",
        "calc/tokens.py": '''"""Text to tokens."""


def tokenize(text):
    raise NotImplementedError
''',
        "calc/parser.py": '''"""Tokens to a tree."""


def parse(tokens):
    raise NotImplementedError
''',
        "calc/evaluate.py": '''"""A tree to its value."""


def evaluate(tree):
    raise NotImplementedError
''',
        "calc/program.py": '''"""The program."""


def answer(text):
    raise NotImplementedError
''',
        "tests/__init__.py": "",
        "tests/test_tokens.py": """import unittest

from calc.tokens import tokenize


class Tokens(unittest.TestCase):
    def test_numbers_and_signs(self):
        self.assertEqual(tokenize("12+3 * (4)"), ["12", "+", "3", "*", "(", "4", ")"])
""",
        "tests/test_parser.py": """import unittest

from calc.parser import parse


class Parser(unittest.TestCase):
    def test_product_binds_more_than_sum(self):
        tree = parse(["1", "+", "2", "*", "3"])
        self.assertEqual(tree, ("+", "1", ("*", "2", "3")))

    def test_parentheses(self):
        tree = parse(["(", "1", "+", "2", ")", "*", "3"])
        self.assertEqual(tree, ("*", ("+", "1", "2"), "3"))
""",
        "tests/test_evaluate.py": """import unittest

from calc.evaluate import evaluate


class Evaluate(unittest.TestCase):
    def test_tree(self):
        self.assertEqual(evaluate(("+", "1", ("*", "2", "3"))), 7)
""",
        "tests/test_program.py": """import unittest

from calc.program import answer


class Program(unittest.TestCase):
    def test_whole_way(self):
        self.assertEqual(answer("(1 + 2) * 3"), "9")
""",
        "tests/test_texts.py": """import pathlib
import unittest

ROOT = pathlib.Path(__file__).parent.parent


class Texts(unittest.TestCase):
    def test_readme_shows_use(self):
        self.assertIn("calc '(1 + 2) * 3'", (ROOT / "README.md").read_text())

    def test_changes_name_the_release(self):
        self.assertIn("## 1.0", (ROOT / "CHANGES.md").read_text())
""",
    }
)

_TOKENS: Final = '''"""Text to tokens."""

import re


def tokenize(text):
    return re.findall(r"\\d+|[-+*/()]", text)
'''
_PARSER_DRAFT: Final = '''"""Tokens to a tree."""

# First the grammar: sum = product (+ product)*, product = atom (* atom)*


def parse(tokens):
    raise NotImplementedError
'''
_PARSER: Final = '''"""Tokens to a tree."""


def parse(tokens):
    tree, rest = _chain(tokens, "+-", lambda some: _chain(some, "*/", _atom))
    if rest:
        raise SyntaxError(rest[0])
    return tree


def _chain(tokens, signs, part):
    tree, rest = part(tokens)
    while rest and rest[0] in signs:
        right, after = part(rest[1:])
        tree, rest = (rest[0], tree, right), after
    return tree, rest


def _atom(tokens):
    if tokens[0] != "(":
        return tokens[0], tokens[1:]
    tree, rest = _chain(tokens[1:], "+-", lambda some: _chain(some, "*/", _atom))
    return tree, rest[1:]
'''
_EVALUATE: Final = '''"""A tree to its value."""

import operator

SIGNS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}


def evaluate(tree):
    if isinstance(tree, str):
        return int(tree)
    sign, left, right = tree
    return SIGNS[sign](evaluate(left), evaluate(right))
'''
_PROGRAM: Final = '''"""The program."""

from calc.evaluate import evaluate
from calc.parser import parse
from calc.tokens import tokenize


def answer(text):
    return str(evaluate(parse(tokenize(text))))
'''
_README: Final = """# calc

A calculator for the command line.

    calc '(1 + 2) * 3'
"""
_CHANGES: Final = """# Changes

## 1.0

The calculator works.
"""


def make_origin(folder: Path) -> Path:
    """Make a bare repository with the project on its branch `main`, and return its path."""
    work, origin = folder / "project", folder / "origin.git"
    files = {**_FILES, ".agentcom.toml": _project_file()}
    for name, text in files.items():
        target = work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    git(folder, "init", "-q", "--bare", "-b", BRANCH, str(origin))
    git(origin, "config", "core.logAllRefUpdates", "always")
    git(work, "init", "-q", "-b", BRANCH)
    git(work, "add", "--all")
    git(work, *_IDENTITY, "commit", "-q", "-m", "A calculator whose tests fail")
    git(work, "push", "-q", str(origin), BRANCH)
    return origin


def tasks(origin: Path, go: Path) -> list[TaskSpec]:
    """Return the graph; the victim's script waits in the middle until `go` exists."""
    return [
        _task(origin, "t1", "Split text into tokens", needs=("area=tokens",),
              tests="tokens", steps=[Write("calc/tokens.py", _TOKENS)]),
        _task(origin, "t2", "Show the use in the readme", needs=("docs",),
              tests="texts.Texts.test_readme_shows_use", steps=[Write("README.md", _README)]),
        _task(origin, VICTIM, "Write the parser", needs=("area=parser",), tests="parser", steps=[
            Shell((sys.executable, "-c", _BEGIN)),
            Write(PARSER, _PARSER_DRAFT),
            Commit("Begin the parser"),
            WaitFor(str(go)),
            Write(PARSER, _PARSER),
        ]),
        _task(origin, "t4", "Evaluate trees", needs=("python",), tests="evaluate", after=("t1",),
              steps=[Write("calc/evaluate.py", _EVALUATE)]),
        _task(origin, "t5", "Join the parts to a program", needs=("python",), tests="program",
              after=(VICTIM, "t4"), steps=[Write("calc/program.py", _PROGRAM)]),
        _task(origin, "t6", "Write down the release", needs=("docs",), after=("t2", "t5"),
              steps=[Write("CHANGES.md", _CHANGES)]),
    ]  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    """Return what git says in `folder`, whatever the person's own settings are.

    Raises:
        CalledProcessError: git refused.
    """
    done = subprocess.run(  # noqa: S603 - arguments of this module and ids of the hub
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - the same git as the sidecar's
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.strip()


def _project_file() -> str:
    command = shlex.join([sys.executable, "-m", "unittest", "-q"])
    return f'verify = {json.dumps(command)}\nland = "merge"\n'


def _task(
    origin: Path,
    ref: str,
    title: str,
    *,
    needs: Sequence[str],
    steps: Sequence[Step],
    tests: str | None = None,
    after: Sequence[str] = (),
) -> TaskSpec:
    wanted = [f"tests.test_{tests}"] if tests else []
    check = [sys.executable, "-m", "unittest", "-q", *wanted]
    script = [
        Say(f"I work on: {title}."),
        *(each for step in steps for each in _fresh(step)),
        Shell(tuple(check)),
        Commit(title),
        Say(f"Done: {title}."),
    ]
    return TaskSpec(
        title=title,
        prompt=f"{title}. Run the tests, and commit.\n\n{scenario.render(script)}",
        needs=tuple(needs),
        depends_on=tuple(Dependency(task) for task in after),
        ref=ref,
        repo=str(origin),
        base=BRANCH,
        verify=(shlex.join(check),) if tests else (),
    )


def _fresh(step: Step) -> Sequence[Step]:
    """Return a step that every agent can do: some overwrite only files that they have read."""
    return (Shell(("rm", "-f", step.path)), step) if isinstance(step, Write) else (step,)
