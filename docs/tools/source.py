"""What only the source text knows: comments of constants, docstrings of fields, words of logs."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import agentcom

_CONSTANT: Final = re.compile(
    r"^(?P<name>[A-Z][A-Z0-9_]+): Final = (?P<value>[^#\n]+?)(?:\s+# (?P<why>.+))?$"
)
_LEVELS: Final = frozenset({"debug", "info", "warning", "error", "critical", "exception"})


class Constant(NamedTuple):
    """One bound: its section of the file, its name, its value, and why it has that value."""

    section: str
    name: str
    value: object
    why: str


def constants(module: Any) -> Iterator[Constant]:
    """Yield the constants of a module; a comment on a line of its own starts a section."""
    section = ""
    for line in inspect.getsource(module).splitlines():
        if line.startswith("# "):
            section = line.removeprefix("# ").rstrip(".")
        match = _CONSTANT.match(line)
        if match is not None:
            value = getattr(module, match["name"])
            yield Constant(section, match["name"], value, match["why"] or "")


def first_line(kind: Any) -> str:
    """Return the first sentence of a docstring, on one line."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def subclasses(kind: type) -> Iterator[type]:
    """Yield all classes of the product below `kind`; imports everything but tests' helpers."""
    for module in pkgutil.walk_packages(agentcom.__path__, "agentcom."):
        if not module.name.startswith("agentcom.testing"):
            importlib.import_module(module.name)
    waiting: list[type] = [kind]
    while waiting:
        one = waiting.pop(0)
        if one.__module__.startswith("agentcom.") and "testing" not in one.__module__:
            yield one
        waiting += sorted(one.__subclasses__(), key=_model_first)


def _model_first(kind: type) -> tuple[bool, str]:
    return not kind.__module__.startswith("agentcom.model."), kind.__name__


def is_used(pattern: str, *, outside: str) -> bool:
    """Return whether the product's source has `pattern` in another file than `outside`."""
    root = Path(agentcom.__path__[0])
    return any(
        re.search(pattern, path.read_text("utf-8"))
        for path in root.rglob("*.py")
        if path.relative_to(root).as_posix() != outside and "testing" not in path.parts
    )


def logged_names() -> Sequence[tuple[str, str]]:
    """Return part and name of every log event that is written out where it is logged."""
    root = Path(agentcom.__path__[0])
    found = set()
    for path in root.rglob("*.py"):
        part = path.relative_to(root).parts[0]
        if part not in {"testing", "cli"}:
            found |= {(part, name) for name in _logged(path)}
    return sorted(found)


def _logged(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(attr=level), args=[ast.Constant(value=str(name)), *_]):
                if level in _LEVELS | {"note"} and re.fullmatch(r"[a-z_]+\.[a-z_]+", name):
                    yield name
            case _:
                pass
