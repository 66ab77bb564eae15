"""The logs that this computer's hub and sidecars write, as records in the order of their time."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

TAIL_BYTES: Final = 16 << 20
"""Of each file its end: more than one file before it is put aside."""

Record = Mapping[str, Any]


def files(home: Path) -> list[Path]:
    """Return the files, those that were put aside first."""
    folder = home / "logs"
    return sorted(folder.glob("*.log.1")) + sorted(folder.glob("*.log"))


def records(path: Path, tail_bytes: int = TAIL_BYTES) -> Iterator[Record]:
    """Yield the records of a file; what is none (a trace of a crash) as `{"text": line}`."""
    try:
        with path.open("rb") as file:
            start = max(0, path.stat().st_size - tail_bytes)
            file.seek(start)
            lines = file.read(tail_bytes).decode("utf-8", "replace").splitlines()
    except OSError:
        return
    part = path.name.partition(".")[0]
    for line in lines[1 if start else 0 :]:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if isinstance(found, dict):
            yield {"part": part, **found}
        elif line.strip():
            yield {"part": part, "text": line}


def merged(home: Path) -> list[Record]:
    """Return the records of all files, by time; lines that are none stay behind the one before."""
    timed: list[tuple[str, int, Record]] = []
    for path in files(home):
        at = ""
        for record in records(path):
            at = str(record.get("timestamp", at))
            timed.append((at, len(timed), record))
    return [record for _, _, record in sorted(timed, key=lambda row: row[:2])]


def about(record: Record, *, cause: str = "", task: str = "") -> bool:
    """Return whether a record belongs to a request, or to a task (or a part of its id)."""
    if cause and cause not in (record.get("cause"), record.get("request")):
        return False
    return not task or task in str(record.get("task", ""))
