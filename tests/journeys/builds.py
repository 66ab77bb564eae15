"""Builds of this product with another version: wheels of the real source, each in an environment.

What the product depends on is taken from where the tests run; nothing is downloaded.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_PARTS: Final = ("pyproject.toml", "README.md", "LICENSE", "src")
_BUILD_S: Final = 100.0


def installed(folder: Path, version: str, more: Mapping[str, str] | None = None) -> Path:
    """Build `version`, with `more` files in the package, and return where its programs are."""
    environment = folder / version
    built = wheel(folder, version, more)
    _run("-m", "venv", "--without-pip", str(environment))
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "what-it-needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(environment / "bin" / "python")
    _run("-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", str(built))
    return environment / "bin"


def wheel(folder: Path, version: str, more: Mapping[str, str] | None = None) -> Path:
    """Build `version`, with `more` files in the package, and return its wheel."""
    source = folder / f"source-{version}"
    source.mkdir(parents=True)
    for part in _PARTS:
        _copy(ROOT / part, source / part)
    package = source / "src" / "agentcom"
    init = package / "__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', init.read_text()))
    for path, text in (more or {}).items():
        (package / path).write_text(text)
    _run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source))
    (built,) = folder.glob(f"agentcom-{version}-*.whl")
    return built


def _copy(here: Path, there: Path) -> None:
    if here.is_dir():
        shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(here, there)


def _run(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=_BUILD_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
