"""Rules of the house that no linter knows. Reads files only; runs in a few seconds."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

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
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "__import__"}
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


def long_functions(path: Path) -> Iterator[str]:
    """Yield the functions that do not fit on a screen."""
    for node in ast.walk(tree(path)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() if (
                node.end_lineno or 0
            ) - node.lineno >= FUNCTION_LINES_MAX:
                yield node.name
            case _:
                pass


def reaches(path: Path) -> Iterator[str]:
    """Yield what a pure module uses that is not pure."""
    yield from (dotted for dotted in sorted(imported(path)) if not is_pure(dotted))
    for node in ast.walk(tree(path)):
        match node:
            case ast.Call(func=ast.Name(id=called)) if called in IMPURE_CALLS:
                yield called
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield f"waits in line {node.lineno}"
            case _:
                pass


def sql(path: Path) -> Iterator[object]:
    """Yield where a module speaks to a database."""
    yield from (line for line, value in strings(path) if SQL.match(value))
    yield from {"apsw", "sqlite3"} & roots(path)


def foreign_adapters(path: Path) -> Iterator[str]:
    """Yield the concrete adapters that a module names beside its own."""
    part, stem = path.relative_to(SOURCE).parts[0], path.stem
    own = (part, family(part, stem))
    if part != "testing":
        named = ((one, adapter(one)) for one in sorted(imported(path)))
        yield from (one for one, found in named if found and found != own)


def bare_opt_outs(path: Path) -> Iterator[int]:
    """Yield the lines that opt out of a checker and do not say why, or may not."""
    strict = path.relative_to(SOURCE).parts[0] in {"core", "model", "protocol"}
    for number, line in enumerate(text(path).splitlines(), 1):
        match = OPT_OUT.search(line)
        if match and (strict or not re.search(r"\w{3}", match[1])):
            yield number


def found(rule: Callable[[Path], Iterable[object]], paths: Iterable[Path]) -> list[str]:
    """Return what breaks a rule, as `path: what`; one test for all files, as they are many."""
    return [f"{name(path)}: {what}" for path in paths for what in rule(path)]


def test_a_module_fits_in_the_head() -> None:
    lengths = {name(path): length(path) for path in MODULES}

    assert {one: lines for one, lines in lengths.items() if lines > MODULE_LINES_MAX} == {}


def test_a_function_fits_on_a_screen() -> None:
    assert found(long_functions, MODULES) == []


def test_a_pure_module_never_waits_nor_reaches_out() -> None:
    assert PURE
    assert found(reaches, PURE) == []


def test_a_core_module_with_behaviour_has_its_own_test_file() -> None:
    missing = [
        name(path)
        for path in (SOURCE / "core").glob("[!_]*.py")
        if any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree(path)))
        and ROOT / "tests" / "core" / f"test_{path.stem}.py" not in TESTS
    ]

    assert missing == []


def test_sql_lives_in_the_store_only() -> None:
    assert found(sql, (path for path in MODULES if path.parent not in SQL_FOLDERS)) == []


def test_an_inner_init_holds_one_docstring() -> None:
    inner = [path for path in MODULES if path.name == "__init__.py" and path.parent != SOURCE]

    assert inner
    assert [
        name(path)
        for path in inner
        if len(tree(path).body) != 1 or not ast.get_docstring(tree(path))
    ] == []


def test_only_the_composition_root_names_a_concrete_adapter() -> None:
    assert found(foreign_adapters, (path for path in MODULES if path != SOURCE / "app.py")) == []


def test_a_module_keeps_no_mutable_state() -> None:
    changeable = (
        f"{name(path)}:{node.lineno}"
        for path in MODULES
        for node in tree(path).body
        if not is_fixed(node)
    )

    assert list(changeable) == []


def test_an_exception_from_a_checker_has_a_reason() -> None:
    assert found(bare_opt_outs, MODULES) == []


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


def test_no_test_sleeps() -> None:
    assert found(sleeps, TESTS) == []
