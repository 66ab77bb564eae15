"""What is shipped: names, locks, entry points, and the wheel."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import agentcom

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+) \\$", re.MULTILINE)
NOT_SHIPPED = ("__pycache__", ".ruff_cache", "ruff.toml")
HASHED = re.compile(r"[a-z0-9-]+==\S+ \\(\n    --hash=sha256:[0-9a-f]{64} \\)*\n    --hash=\S{71}")


def lock_names() -> list[str]:
    return [path.name for path in LOCKS]


def pins(name: str) -> dict[str, str]:
    return dict(PINNED.findall((ROOT / "requirements" / name).read_text()))


def test_the_installed_version_is_the_package_s_own() -> None:
    assert metadata.version("agentcom") == agentcom.__version__


def test_the_locks_are_all_there() -> None:
    assert lock_names() == ["build.txt", "dev.txt", "docs.txt", "run.txt"]


@pytest.mark.parametrize("name", lock_names())
def test_a_lock_holds_versions_and_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()

    assert HASHED.sub("", text).split() == []


@pytest.mark.parametrize("name", ["build.txt", "dev.txt", "docs.txt"])
def test_the_locks_agree_with_each_other(name: str) -> None:
    run, other = pins("run.txt"), pins(name)

    shared = run.keys() & other.keys()
    assert {key: run[key] for key in shared} == {key: other[key] for key in shared}


def test_everything_needed_at_run_time_is_locked() -> None:
    needed = {re.split(r"[<>=~!\[; ]", line)[0] for line in PROJECT["dependencies"]}

    assert needed <= pins("run.txt").keys()
    assert pins("run.txt").keys() <= pins("dev.txt").keys()


def test_private_interfaces_are_used_of_exact_versions_only() -> None:
    exact = {line.split("==")[0] for line in PROJECT["dependencies"] if "==" in line}

    assert exact == {"uvicorn", "picows"}


@pytest.mark.parametrize("group", ["agentcom.runtimes", "agentcom.stores", "console_scripts"])
def test_an_entry_point_leads_to_something(group: str) -> None:
    points = [
        point for point in metadata.entry_points(group=group) if point.value.startswith("agentcom.")
    ]

    assert points
    assert all(callable(point.load()) for point in points)


@pytest.mark.slow
def test_the_wheel_carries_code_data_and_licence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)

    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "agentcom").rglob("*")
        if path.is_file() and not any(part in str(path) for part in NOT_SHIPPED)
    }
    assert expected <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any("test_" in name for name in names)
