"""What every test gets: a home of its own, a plain git, a plain log, repeatable examples."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("deep", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

GIT_CONFIG = """\
[user]
name = Test
email = test@agentcom.invalid
[init]
defaultBranch = main
[commit]
gpgSign = false
"""


def pytest_collection() -> None:
    """Collect tests without a look for garbage: thousands come, and none goes."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage from now on, and not at the tests."""
    gc.enable()
    _keep()


@pytest.fixture(scope="module", autouse=True)
def _old_is_kept() -> Iterator[None]:
    """Leave what tests leave alone: it grows, and each look for garbage went over all of it."""
    yield
    _keep()


def _keep() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the person's own settings and state out of the tests, and the tests out of theirs."""
    root = tmp_path_factory.mktemp("surroundings")
    config = root / "gitconfig"
    config.write_text(GIT_CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AGENTCOM_")]:
            patch.delenv(name)
        patch.setenv("AGENTCOM_HOME", str(root / "home"))
        patch.setenv("GIT_CONFIG_GLOBAL", str(config))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("GIT_TERMINAL_PROMPT", "0")
        yield


@pytest.fixture(autouse=True)
def _plain_log() -> Iterator[None]:
    """Give each test the log's own settings back: commands that run in here change them."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `AGENTCOM_HOME` for one test."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("AGENTCOM_HOME", str(path))
    return path
