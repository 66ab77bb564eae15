"""What journeys share: a stage, and whether its page is written or compared."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.stage import Stage


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--publish", action="store_true", help="write docs/journeys anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "stage" in getattr(item, "fixturenames", ()):
            item.add_marker("journey")


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(tmp_path, publishing=request.config.getoption("--publish", default=False))
    yield made
    made.close()
