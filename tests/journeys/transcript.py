"""What a journey said and showed, as a page that is the same after every run.

Times, ids, ports, folders and numbers of processes differ from run to run: each gets a steady
name here. Nothing else is changed, but columns are aligned anew, since names have other lengths.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Final

ID_CHARS: Final = 26
SHORT_CHARS: Final = 6
"""What people are shown of an id."""
_ID_HEAD: Final = "01kb0000000000000000"
_CELL: Final = "\x1f"
_HEADS: Final = re.compile(r"[A-Z]+(?: {2,}[A-Z]+)+")
_SECRET: Final = re.compile(r"\b(acm_[a-z]{3}_|sha256:)\w+")
_COMMIT: Final = re.compile(r"\b[0-9a-f]{40}\b|\b[0-9a-f]{12}\b")
_BATCH: Final = re.compile(r"(?<=\bcommit )\d+\b")
_PORT: Final = re.compile(r"(?<=\b127\.0\.0\.1:)\d+")
_ID: Final = re.compile(r"\b01(?!kb0)[0-9a-hjkmnp-tv-z]{24}\b")
_LIFE: Final = re.compile(r"\b1[0-9]{9}\b")
_PROGRAMS: Final = "aider|claude|codex|gemini|mini|openclaw|opencode|openhands|pi|qwen|vibe"
_ELSEWHERE: Final = re.compile(rf"^(?:not here|{_PROGRAMS}) {{2,}}.*\n", re.MULTILINE)
_STEADY: Final = (
    (re.compile(r"\b1[0-9]{12}\b"), "1700000000000"),
    (re.compile(r"\b20\d\d-\d\d-\d\d (?=\d\d:)"), "2026-12-01 "),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "12:00:00"),
    (re.compile(r"\b\d+ (?:s|min) ago\b"), "3 s ago"),
    (re.compile(r"\bin \d+ (?:s|min|h)\b"), "in 3 s"),
    (re.compile(r"\b(pid|process|kill -9) \d+\b"), r"\1 4711"),
    (re.compile(r"\b\d+ tokens\b"), "120 tokens"),
    (re.compile(r"^cause: \w+", re.MULTILINE), "cause: 3f9b2c7d"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """One command, by whom, and what the screen showed."""

    who: str
    command: str
    text: str
    code: int


@dataclass(slots=True)
class Transcript:
    """The parts of one page, in order."""

    parts: list[str | Shown] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    """What a run calls a thing -> what the page calls it."""
    folders: dict[Path, str] = field(default_factory=dict)

    def knows(self, found: str, name: str) -> None:
        """Call an id by `name`, both whole and as people are shown it."""
        if len(found) == ID_CHARS:
            short = name.ljust(SHORT_CHARS, "0")[:SHORT_CHARS]
            self.names.setdefault(found, _ID_HEAD + short)
            self.names.setdefault(found[-SHORT_CHARS:], short)
        else:
            self.names.setdefault(found, name)

    def render(self, title: str) -> str:
        """Return the page."""
        blocks = [f"# {title}"]
        for is_shown, group in groupby(self.parts, key=lambda part: isinstance(part, Shown)):
            parts = list(group)
            blocks += [_console(parts)] if is_shown else [str(part) for part in parts]
        return self._steady("\n\n".join(blocks) + "\n")

    def _steady(self, text: str) -> str:
        text = _SECRET.sub(r"\1...", text)
        for folder, name in sorted(self.folders.items(), key=lambda it: -len(str(it[0]))):
            text = text.replace(str(folder), name)
        for found, name in self.names.items():
            text = re.sub(rf"(?<![0-9A-Za-z]){re.escape(found)}(?![0-9A-Za-z])", name, text)
        text = _ELSEWHERE.sub("", text)
        for pattern, steady in _STEADY:
            text = pattern.sub(steady, text)
        text = _committed(text)
        text = _numbered(_BATCH, text, lambda n: str(16 + 8 * n))
        text = _numbered(_PORT, text, lambda n: str(7_420 + n))
        text = _numbered(_ID, text, lambda n: f"01kb{n + 1:020}id")
        text = _numbered(_LIFE, text, lambda n: str(1_700_000_000 + n))
        return _aligned(text)


def _numbered(pattern: re.Pattern[str], text: str, name: Callable[[int], str]) -> str:
    """Give each thing of a kind the name of its place in the order of appearance."""
    seen: dict[str, str] = {}
    return pattern.sub(lambda match: seen.setdefault(match[0], name(len(seen))), text)


def _committed(text: str) -> str:
    """Name commits in the order of appearance, whole or by the twelve digits that are shown."""
    seen: dict[str, str] = {}

    def named(match: re.Match[str]) -> str:
        return seen.setdefault(match[0][:12], _commit(len(seen)))[: len(match[0])]

    return _COMMIT.sub(named, text)


def _commit(number: int) -> str:
    return hashlib.sha1(f"commit {number}".encode(), usedforsecurity=False).hexdigest()


def _console(parts: Iterable[str | Shown]) -> str:
    lines: list[str] = []
    for part in parts:
        assert isinstance(part, Shown)
        lines += [f"{part.who}$ {part.command}", *_cut(part.text).splitlines()]
        lines += [f"[exit code {part.code}]"] if part.code else []
    fence = "````" if any(line.startswith("```") for line in lines) else "```"
    return "\n".join([f"{fence}console", *lines, fence])


def _cut(text: str) -> str:
    """Mark where the cells of every table end, as its heads say."""
    lines = text.splitlines()
    starts: list[int] = []
    for at, line in enumerate(lines):
        if _HEADS.fullmatch(line):
            starts = [match.start() for match in re.finditer(r"[A-Z]+", line)]
        elif not line or any(line[start - 2 : start].strip() for start in starts[1:]):
            starts = []
        if starts:
            ends = [*starts[1:], len(line)]
            lines[at] = _CELL.join(
                line[start:end].strip() for start, end in zip(starts, ends, strict=True)
            )
    return "\n".join(lines)


def _aligned(text: str) -> str:
    """Make the columns of every table as wide as their cells are now."""
    lines: list[str] = []
    for is_table, group in groupby(text.split("\n"), key=lambda line: _CELL in line):
        rows = list(group)
        lines += _table([row.split(_CELL) for row in rows]) if is_table else rows
    return "\n".join(lines)


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
