"""Plants one bug in the product before it is imported: how the checkers are checked.

A mutant is a change of source text, so the product has no switch for it; a text that is not found
exactly once is a failure, so the list keeps up with the code. Imports nothing of the product.
"""

import ast
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, ModuleType
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """One text of one module, and what stands there instead."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One planted bug."""

    name: str
    story: str
    """What goes wrong for a user if nobody notices."""
    module: str
    old: str
    new: str
    hours: float = 60.0
    """Simulated hours within which it must be caught."""
    seed: int = 1
    """The seed that is tried first: one that caught it when this was written."""
    often: str = ""
    """An act of the nemesis that happens every four minutes: what the bug is about."""
    among: Mapping[str, Any] = field(default_factory=dict)
    """Options that each of its runs has, whatever its seed says."""
    also: tuple[Change, ...] = ()
    """The same bug in other modules, where one alone would make up for it."""

    @property
    def changes(self) -> tuple[Change, ...]:
        """All that is changed."""
        return (Change(self.module, self.old, self.new), *self.also)


class NotPlanted(Exception):
    """The text to change is not in the source, or not once: the list is older than the code."""


def plant(mutant: Mutant) -> None:
    """Have the mutant's modules changed when they are imported.

    Raises:
        NotPlanted: one is imported already, or its text is not found exactly once.
    """
    for change in mutant.changes:
        if change.module in sys.modules:
            raise NotPlanted(f"{change.module} is imported already")
        changed(change)  # told now, not in the middle of an import
        sys.meta_path.insert(0, _Finder(change))


def changed(change: Change) -> str:
    """Return the source of a module with the bug in it.

    Raises:
        NotPlanted: its text is not found exactly once, or the result is no Python.
    """
    spec = _find(change.module)
    assert spec.origin is not None
    with open(spec.origin, encoding="utf-8") as file:  # noqa: PTH123 - as early and light as can be
        source = file.read()
    count = source.count(change.old)
    if count != 1:
        raise NotPlanted(f"{change.old!r} is {count} times in {change.module}")
    after = source.replace(change.old, change.new)
    try:
        ast.parse(after)
    except SyntaxError as error:
        raise NotPlanted(f"{change.module}: {error}") from error
    return after


def _find(module: str) -> importlib.machinery.ModuleSpec:
    parent, _, _ = module.rpartition(".")
    path: Sequence[str] | None = None
    if parent:
        __import__(parent)
        path = sys.modules[parent].__path__
    spec = importlib.machinery.PathFinder.find_spec(module, path)
    if spec is None:
        raise NotPlanted(f"there is no module {module}")
    return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, change: Change, origin: str) -> None:
        super().__init__(change.module, origin)
        self._change = change

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - one module
        return compile(changed(self._change), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, change: Change) -> None:
        self._change = change

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._change.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(self._change, spec.origin)
        return spec
