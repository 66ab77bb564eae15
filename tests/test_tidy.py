"""Rules of the house that no linter knows. Reads files only; runs in a few seconds."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "agentcom"
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
READING_PATH = (
    "model/task.py",
    "core/tasks.py",
    "core/pool.py",
    "hub/engine.py",
    "store/base.py",
)
READING_PATH_LINES_MAX = 1_080
IMPURE = {
    *("anyio", "asyncio", "concurrent", "importlib", "multiprocessing", "select", "selectors"),
    *("http", "httpx", "picows", "socket", "ssl", "starlette", "urllib", "uvicorn", "websockets"),
    *("apsw", "io", "os", "pathlib", "shutil", "sqlite3", "subprocess", "sys", "tempfile"),
    *("logging", "random", "secrets", "signal", "structlog", "threading", "time", "uuid"),
}
SQL = re.compile(
    r"\s*(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM"
    r"|CREATE\s+(TABLE|INDEX|VIEW)|DROP\s+TABLE|PRAGMA\s+\w)\b",
    re.DOTALL,
)
BANNER = re.compile(r"^\s*#\s*([-=#*~_])\1{3,}", re.MULTILINE)
OWN_FOLDER = re.compile(r"(?<![\w.}$])/(?:root|work|Users/\w+|home/\w+)/")

OPT_OUT = re.compile(r"#\s*(?:noqa|type: ignore)(?::\s*[A-Z0-9, ]+|\[[a-z, -]+\])?(.*)$")
ADAPTERS = {
    "store": {"memory", "sqlite", "postgres"},
    "bus": {"local", "postgres", "nats"},
    "transport": {"ws", "http", "mcp", "a2a", "compat"},
}

SQL_FOLDERS = {SOURCE / "store", SOURCE / "testing" / "crash"}
"""The latter stands below SQLite, as its disk."""

MODULES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PURE = [
    path
    for path in MODULES
    if path.relative_to(SOURCE).parts[0] in {"core", "model", "protocol"}
    or (path.parent == SOURCE / "sidecar" and path.stem.startswith("machine"))
]


def name(path: Path) -> str:
    """Return the path as it is written in a report."""
    return path.relative_to(ROOT).as_posix()


@cache
def text(path: Path) -> str:
    """Return the file's text, read once."""
    return path.read_text(encoding="utf-8")


def length(path: Path) -> int:
    """Return how many lines a file has."""
    return len(text(path).splitlines())


@cache
def tree(path: Path) -> ast.Module:
    """Return the file's syntax tree, parsed once."""
    return ast.parse(text(path))


@cache
def imported(path: Path) -> frozenset[str]:
    """Return the dotted names a module imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        match node:
            case ast.Import(names=names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                found.update(f"{module}.{alias.name}" for alias in names)
            case _:
                pass
    return frozenset(found)


def roots(path: Path) -> set[str]:
    """Return the top-level name of every import."""
    return {dotted.split(".")[0] for dotted in imported(path)}


def family(part: str, stem: str) -> str | None:
    """Return the adapter a module belongs to: `sqlite_writer` is part of `sqlite`."""
    return next(
        (one for one in ADAPTERS.get(part, ()) if stem.split("_", maxsplit=1)[0] == one), None
    )


def adapter(dotted: str) -> tuple[str, str] | None:
    """Return layer and adapter that an import names, if it names one."""
    match dotted.split("."):
        case ["agentcom", part, stem, *_] if found := family(part, stem):
            return part, found
        case _:
            return None


def is_pure(dotted: str) -> bool:
    """Return whether a pure module may import the name."""
    match dotted.split("."):
        case ["agentcom", "core" | "model" | "protocol", *_]:
            return True
        case ["agentcom", "sidecar", stem, *_]:
            return stem.startswith("machine")
        case [top, *_]:
            return top not in IMPURE and top != "agentcom"
        case _:
            return False


def is_fixed(node: ast.stmt) -> bool:
    """Return whether a statement of a module leaves no collection that others could change."""
    mutable = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    match node:
        case ast.Assign(value=value, targets=[ast.Name(id=target)]):
            return not isinstance(value, mutable) or target == "__all__"
        case ast.AnnAssign(value=value, annotation=annotation):
            return not isinstance(value, mutable) or "Final" in ast.unparse(annotation)
        case _:
            return True


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and value of every string, those inside f-strings included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def sleeps(path: Path) -> Iterator[int]:
    """Yield the lines that wait for the clock; `asyncio.sleep(0)` only yields to others."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr="sleep")):
                yield node.lineno
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="asyncio" | "anyio"), attr="sleep"),
                args=[argument],
            ) if not (isinstance(argument, ast.Constant) and argument.value == 0):
                yield node.lineno
            case _:
                pass


def written_by_hand() -> Iterator[Path]:
    """Yield the files that tell a machine what to do."""
    yield from MODULES
    yield from (path for path in TESTS if path != Path(__file__))
    for pattern in ("bench/*.py", "requirements/*", ".ci/*", ".github/**/*", "*.toml", "Makefile"):
        yield from (path for path in ROOT.glob(pattern) if path.is_file())


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_fits_in_the_head(path: Path) -> None:
    assert length(path) <= MODULE_LINES_MAX


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    long = [
        f"{function.name}:{function.lineno}"
        for function in functions
        if (function.end_lineno or 0) - function.lineno >= FUNCTION_LINES_MAX
    ]
    assert long == []


@pytest.mark.parametrize("path", PURE, ids=name)
def test_a_pure_module_never_waits(path: Path) -> None:
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)

    assert [node for node in ast.walk(tree(path)) if isinstance(node, waits)] == []


@pytest.mark.parametrize("path", PURE, ids=name)
def test_a_pure_module_never_reaches_out(path: Path) -> None:
    calls = {
        node.func.id
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert [dotted for dotted in sorted(imported(path)) if not is_pure(dotted)] == []
    assert calls.isdisjoint({"open", "print", "input", "exec", "eval", "__import__"})


@pytest.mark.parametrize("path", sorted((SOURCE / "core").glob("[!_]*.py")), ids=name)
def test_a_core_module_with_behaviour_has_its_own_test_file(path: Path) -> None:
    behaves = any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree(path)))

    own = ROOT / "tests" / "core" / f"test_{path.stem}.py"
    assert not behaves or own in TESTS, f"{name(own)} is missing"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent not in SQL_FOLDERS], ids=name
)
def test_sql_lives_in_the_store_only(path: Path) -> None:
    statements = [line for line, value in strings(path) if SQL.match(value)]

    assert statements == []
    assert {"apsw", "sqlite3"}.isdisjoint(roots(path))


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.name == "__init__.py" and path.parent != SOURCE],
    ids=name,
)
def test_an_inner_init_holds_one_docstring(path: Path) -> None:
    assert len(tree(path).body) == 1
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", [path for path in MODULES if path != SOURCE / "app.py"], ids=name)
def test_only_the_composition_root_names_a_concrete_adapter(path: Path) -> None:
    part, stem = path.relative_to(SOURCE).parts[0], path.stem
    own = (part, family(part, stem))

    named = [one for one in sorted(imported(path)) if (found := adapter(one)) and found != own]
    assert part == "testing" or named == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_keeps_no_mutable_state(path: Path) -> None:
    assert [node.lineno for node in tree(path).body if not is_fixed(node)] == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_an_exception_from_a_checker_has_a_reason(path: Path) -> None:
    strict = path.relative_to(SOURCE).parts[0] in {"core", "model", "protocol"}

    bare = [
        number
        for number, line in enumerate(text(path).splitlines(), 1)
        if (match := OPT_OUT.search(line)) and (strict or not re.search(r"\w{3}", match[1]))
    ]
    assert bare == []


def test_no_comment_is_a_banner() -> None:
    assert [name(path) for path in [*MODULES, *TESTS] if BANNER.search(text(path))] == []


def test_no_file_names_a_folder_of_one_machine() -> None:
    found = [
        f"{name(path)}: {match.group()}"
        for path in written_by_hand()
        for match in OWN_FOLDER.finditer(text(path))
    ]

    assert found == []


def test_the_reading_path_stays_short() -> None:
    paths = [SOURCE / part for part in READING_PATH if (SOURCE / part).exists()]

    lines = {name(path): length(path) for path in paths}
    assert sum(lines.values()) < READING_PATH_LINES_MAX, lines


def test_every_make_target_is_explained() -> None:
    makefile = text(ROOT / "Makefile")
    (declared,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)

    explained = set(re.findall(r"^([a-z-]+):.*## \w", makefile, re.MULTILINE))
    assert set(declared.split()) == explained


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_no_test_sleeps(path: Path) -> None:
    assert list(sleeps(path)) == []
