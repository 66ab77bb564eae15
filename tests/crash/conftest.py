import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcom.testing.crash import suite


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where a sync costs nothing, as states of a disk need by the thousand."""
    folder = suite.memory_folder()
    yield folder
    shutil.rmtree(folder)
