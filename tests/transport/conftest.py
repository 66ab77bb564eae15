"""Runs the tests of the port on every event loop that is installed."""

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Mapping

import pytest

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
ON_EVERY_LOOP = ("test_port", "test_port_limits", "test_port_stop", "test_socket")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    loops: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.path.stem in ON_EVERY_LOOP:
        with contextlib.suppress(ImportError):
            loops["uvloop"] = importlib.import_module("uvloop").new_event_loop
    return loops
