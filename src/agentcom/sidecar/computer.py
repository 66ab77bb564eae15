"""What this computer offers to tasks: system, size, toolchains, room on its disk.

Agents that offer the same are one class for the matcher, and a hub knows 300 classes. So only what
has few values is told: versions of programs, whole GiB of memory, and of the disk that changes all
the time one of five steps. What a look costs is some reads of file dates: a program is asked for
its version once, and again when its file has changed.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from agentcom import __version__
from agentcom.model.requirement import CAPABILITY_CHARS_MAX
from agentcom.sidecar.runtime import agent_cli

DISK_STEPS_GB: Final = (2, 10, 50, 200, 1_000)
"""What `disk_gb` may be: the largest step that is free."""
STEADY: Final = 1.25
"""A step up counts only with so much more, so that a disk at its edge does not flap."""
GPU_S: Final = 10
"""A driver that hangs must not keep the rest from being found."""
ASKED_AT_ONCE: Final = 4
_GIB: Final = 1 << 30
_MIB_PER_GIB: Final = 1_024


class Tool(NamedTuple):
    """A toolchain: the capability, the program, and how it is asked for its version."""

    name: str
    program: str
    words: tuple[str, ...] = ("--version",)


TOOLS: Final = (
    Tool("python", "python3"),
    Tool("node", "node"),
    Tool("go", "go", ("version",)),
    Tool("rust", "rustc"),
    Tool("java", "java"),
    Tool("ruby", "ruby"),
    Tool("php", "php"),
    Tool("dotnet", "dotnet"),
    Tool("git", "git"),
    # Only a daemon that answers this user is of use.
    Tool("docker", "docker", ("version", "--format", "{{.Server.Version}}")),
)
NAMES: Final = frozenset(
    {"os", "arch", "cpu", "memory_gb", "disk_gb", "gpu", *(tool.name for tool in TOOLS)}
)
"""Names of what is found here; an agent whose settings give one of them keeps its own."""


def resources() -> dict[str, int]:
    """Return what attempts on this computer share: cores, and memory in MiB."""
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    return {"cpu": os.cpu_count() or 1, "memory_mb": max(1, page * pages >> 20)}


def facts() -> dict[str, str]:
    """Return what people want to know of this computer."""
    has = resources()
    return {
        "os": f"{platform.system()} {platform.release()}",
        "arch": platform.machine(),
        "cpus": str(has["cpu"]),
        "memory": f"{has['memory_mb']} MiB",
        "python": platform.python_version(),
        "agentcom": __version__,
    }


def capabilities() -> tuple[str, ...]:
    """Return what does not change while nobody installs anything; the disk is not in it."""
    has = resources()
    system = platform.system().lower().replace("darwin", "macos")
    memory_gb = max(1, round(has["memory_mb"] / _MIB_PER_GIB))
    fixed = (
        f"os={system}",
        f"arch={platform.machine().lower()}",
        f"cpu={has['cpu']}",
        f"memory_gb={memory_gb}",
    )
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        gpu = pool.submit(_gpu)
        tools = list(pool.map(_tool, TOOLS))
        return (*fixed, *filter(None, tools), *gpu.result())


def disk_step(free_bytes: int, before: int = 0) -> int:
    """Return the step that `free_bytes` reach, in GiB; `before` is the one told last."""
    found = 0
    for step in DISK_STEPS_GB:
        needed = step if step <= before else step * STEADY
        if free_bytes >= needed * _GIB:
            found = step
    return found


def free_bytes(folder: Path) -> int:
    """Return what this user may still write to the disk of `folder`."""
    return shutil.disk_usage(folder).free


def _tool(tool: Tool) -> str:
    version = agent_cli.probe(tool.program, *tool.words).text
    found = re.match(r"\d+(\.\d+)*", version)  # 1.23rc1 is compared as 1.23
    return f"{tool.name}={found.group()}"[:CAPABILITY_CHARS_MAX] if found else ""


def _gpu() -> Sequence[str]:
    if platform.system() == "Darwin":
        return ("gpu=apple",) if platform.machine() == "arm64" else ()
    if shutil.which("nvidia-smi") is not None and _nvidia():
        return ("gpu=nvidia",)
    return ("gpu=amd",) if Path("/dev/kfd").exists() else ()


def _nvidia() -> bool:
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"],  # noqa: S607 -- whichever is on PATH
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GPU_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.startswith(b"GPU ")
