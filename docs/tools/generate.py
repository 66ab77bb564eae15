"""Keeps generated parts of the documentation the same as the code they describe.

A page holds a block between `<!-- generated: NAME -->` and `<!-- end -->`. `python -m
docs.tools.generate` writes all blocks anew, and says which pages changed; with `--check` it
writes nothing and fails if a page would change. What a block holds is in `blocks.py` and
`wire.py`; sentences that only people can write are in `words.py`.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from docs.tools import access, blocks, damage, wire

BLOCKS: Final[Mapping[str, Callable[[], str]]] = MappingProxyType(
    {
        "cli": blocks.commands,
        "errors": blocks.errors,
        "close-codes": blocks.close_codes,
        "exit-codes": blocks.exit_codes,
        "limits": blocks.limits,
        "roles": blocks.roles,
        "damage": damage.cases,
        "access": access.matrix,
        "scopes": access.scopes,
        "request-costs": access.costs,
        "request-budgets": access.budgets,
        "failure-classes": blocks.failure_classes,
        "transitions": blocks.transitions,
        "transitions-diagram": blocks.transitions_diagram,
        "hub-settings": blocks.hub_settings,
        "sidecar-settings": blocks.sidecar_settings,
        "machine-settings": blocks.machine_settings,
        "log-events": blocks.log_events,
        "metrics": blocks.metrics_table,
        "frames": wire.frames_by_sender,
        "values": wire.values,
        "routes": wire.routes,
        "task-fields": wire.task_fields,
        "mcp-tools": wire.tools,
    }
)
_BLOCK: Final = re.compile(
    r"(<!-- generated: (?P<name>[a-z-]+) -->\n)(?:(?!<!-- ).)*(<!-- end -->)", re.DOTALL
)


def pages(root: Path) -> Iterator[Path]:
    """Yield every page of the documentation, the README first."""
    yield root / "README.md"
    yield from sorted((root / "docs").rglob("*.md"))


def render(text: str) -> str:
    """Return a page with all its generated blocks as they should be now."""
    return _BLOCK.sub(lambda match: match[1] + BLOCKS[match["name"]]() + "\n" + match[3], text)


def names(text: str) -> list[str]:
    """Return the names of a page's generated blocks."""
    return [match["name"] for match in _BLOCK.finditer(text)]


def stale(root: Path) -> dict[Path, str]:
    """Return the pages that are not as the code says, with what they should hold."""
    wanted = {page: render(page.read_text("utf-8")) for page in pages(root)}
    return {page: text for page, text in wanted.items() if page.read_text("utf-8") != text}


def main(words: list[str] | None = None) -> int:
    """Write what is stale, or with `--check` only name it."""
    parser = argparse.ArgumentParser(prog="python -m docs.tools.generate", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="the folder of README.md")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    given = parser.parse_args(words)
    found = stale(given.root)
    for page, text in found.items():
        sys.stdout.write(f"{'stale' if given.check else 'written'}: {page}\n")
        if not given.check:
            page.write_text(text, "utf-8")
    return int(bool(found) and given.check)


if __name__ == "__main__":
    sys.exit(main())
