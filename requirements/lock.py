"""Write the locks: versions and hashes, no addresses and no names of folders.

`python requirements/lock.py` keeps versions that still fit; `--upgrade` takes the newest.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
FLAGS: Final = (
    "--quiet",
    "--generate-hashes",
    "--strip-extras",
    "--allow-unsafe",
    "--no-header",
    "--no-annotate",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-emit-trusted-host",
    "--no-emit-options",
)
LOCKS: Final = {
    "run.txt": ("../pyproject.toml",),
    "build.txt": ("-c", "run.txt", "build.in"),
    "dev.txt": ("-c", "run.txt", "--extra", "mcp", "../pyproject.toml", "build.in", "dev.in"),
    "docs.txt": ("-c", "dev.txt", "docs.in"),
    "fuzz.txt": ("fuzz.in",),
}


def main(extra: list[str]) -> None:
    """Resolve each lock in turn; later ones keep to the earlier."""
    for name, sources in LOCKS.items():
        command = [sys.executable, "-m", "piptools", "compile", *FLAGS, *extra, "-o", name]
        subprocess.run([*command, *sources], cwd=HERE, check=True)  # noqa: S603 - fixed argv
        lock = HERE / name
        lines = lock.read_text().splitlines(keepends=True)
        lock.write_text("".join(line for line in lines if line.strip() and line[0] != "#"))


if __name__ == "__main__":
    main(sys.argv[1:])
