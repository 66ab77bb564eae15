"""A copy of the package with parts of the core compiled, to measure what that would bring.

Run: python -m bench.compiled build/compiled, then `python -m bench.versions src build/compiled`,
or `PYTHONPATH=build/compiled python -m bench.deciding`. It needs a C compiler and half a minute of
CPU; mypyc comes with mypy. The product is not built like that (docs/decisions/0072).
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = "agentcom"
MODULES: Final = (
    "fairness", "gates", "holding", "intake", "lanes", "ledger", "pool", "reports", "requests",
    "shapes", "tasks", "turn", "view",
)  # fmt: skip
"""What runs for each task. `matcher` and `lazyheap` cannot be among them: they compare tuples by
identity, and compiled code has none for them."""


def build(tree: Path) -> None:
    """Make the folder `tree` anew, with the package in it."""
    shutil.rmtree(tree, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / PACKAGE, tree / PACKAGE, ignore=ignored)
    settings = tree / "mypy.ini"
    settings.write_text("[mypy]\npython_version = 3.11\nstrict = true\nmypy_path = .\n", "utf-8")
    paths = [f"{PACKAGE}/core/{name}.py" for name in MODULES]
    compiler = [str(Path(sys.executable).with_name("mypyc")), "--config-file", settings.name]
    subprocess.run([*compiler, *paths], cwd=tree, check=True)


def main() -> None:
    """Build it where the caller says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    build(parser.parse_args().tree)


if __name__ == "__main__":
    main()
