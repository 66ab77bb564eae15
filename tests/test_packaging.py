"""What is shipped: names, locks, entry points, and the wheel."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import agentcom

VERSION = agentcom.__version__
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
    assert lock_names() == ["build.txt", "dev.txt", "docs.txt", "fuzz.txt", "run.txt"]


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


def copied(target: Path) -> Path:
    """Return a copy of what git knows, without git and with other times and modes."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        place = target / name
        if (ROOT / name).is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place)
    return target


def built(folder: Path, *, umask: int, zone: str) -> dict[str, str]:
    """Build wheel and sdist as `make dist` does; return the hashes of both by name."""
    words = [sys.executable, "-m", "build", "--no-isolation", "-o", str(folder / "dist")]
    subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1800000000", "TZ": zone},
        umask=umask,
        check=True,
        capture_output=True,
    )
    made = (folder / "dist").iterdir()
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in made}


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], dict[str, str]]:
    one = copied(tmp_path_factory.mktemp("one"))
    two = copied(tmp_path_factory.mktemp("another-name") / "and deeper")
    for path in two.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    first = built(one, umask=0o077, zone="UTC")
    return one, first, built(two, umask=0o002, zone="Asia/Tokyo")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_builds_elsewhere_and_at_another_time_are_equal(
    twice: tuple[Path, dict[str, str], dict[str, str]],
) -> None:
    _, first, second = twice

    assert len(first) == 2
    assert first == second


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_wheel_carries_code_data_and_licence_and_nothing_of_tests(
    twice: tuple[Path, dict[str, str], dict[str, str]],
) -> None:
    folder, _, _ = twice

    (wheel,) = (folder / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    source = folder / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "agentcom").rglob("*")
        if path.is_file() and not any(part in str(path) for part in NOT_SHIPPED)
    }
    assert expected <= set(names)
    assert "agentcom/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"agentcom"}
    assert not any("test_" in name or name.startswith(("tests", "docs")) for name in names)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_what_the_wheel_installs_runs_a_task(
    twice: tuple[Path, dict[str, str], dict[str, str]], tmp_path: Path
) -> None:
    folder, _, _ = twice
    (wheel,) = (folder / "dist").glob("*.whl")
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = home.glob("lib/python3*/site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "-q"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, capture_output=True)
    # What it depends on, from where these tests have it; the package itself comes first.
    (site / "more.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "AGENTCOM_HOME": str(tmp_path / "home"),
        "AGENTCOM_HUB_PORT": "0",
    }

    def agentcom(*words: str) -> str:
        command = [str(home / "bin" / "python"), "-P", "-m", "agentcom.cli.main", *words]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = "import agentcom; print(agentcom.__file__)"
    found = subprocess.run(
        [str(home / "bin" / "python"), "-P", "-c", where],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(site) in found.stdout
    assert agentcom("--version").strip() == f"agentcom {VERSION}"
    try:
        agentcom("up", "--agent", "shell=command")
        said = agentcom("submit", "--command", "--no-repo", "--watch", "--", "echo", "hello")
        assert "completed" in said
        assert agentcom("hub", "health").startswith("ready")
    finally:
        agentcom("down")
