"""Folders for a while: what `demo` and `chaos` fill, and remove when all went well."""

import tempfile
from pathlib import Path

from agentcom.cli.errors import CommandFailed, Exit


def folder(wanted: Path | None, prefix: str) -> Path:
    """Return a folder with nothing in it: the one that is wanted, else a new one in /tmp.

    Raises:
        CommandFailed: there is something in it, which would be removed in the end.
    """
    root = (wanted or Path(tempfile.mkdtemp(prefix=prefix))).resolve()
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise CommandFailed(
            f"{root} is not empty, and is removed in the end",
            hint="name a folder that does not exist yet",
            exit_code=Exit.USAGE,
            code="usage",
        )
    return root
