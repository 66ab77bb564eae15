"""What journeys share: a stage, and whether its page is written or compared."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.stage import Stage

TIMEOUT_S = 240
"""A journey is a story of many commands; on a busy small machine it takes its time."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--publish", action="store_true", help="write docs/journeys anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "stage" in getattr(item, "fixturenames", ()):
            item.add_marker("journey")
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(tmp_path, publishing=request.config.getoption("--publish", default=False))
    yield made
    made.close()
