"""The hub tells the operator's supervisor how it is, and notices a clock that was set."""

import socket
from pathlib import Path

import pytest

from agentcom.hub.pulse import Notifier, Pulse
from agentcom.model.ids import Instant, Now, WallTime
from agentcom.telemetry.metrics import Metrics
from agentcom.testing.simulation.kernel import SECOND, Kernel
from agentcom.testing.simulation.loop import NodeLoop


class SetClock:
    """Times that a test sets."""

    def __init__(self) -> None:
        self.instant = 1_000
        self.wall = 1_000_000

    def now(self) -> Now:
        return Now(Instant(self.instant), WallTime(self.wall))


def test_states_reach_the_listener(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "10000000"})

        notifier.tell("READY=1")

        assert listener.recv(64) == b"READY=1"
        assert notifier.watched


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_without_a_listener_nothing_happens(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)

    notifier.tell("READY=1")
    assert not notifier.watched


def test_a_step_of_the_wall_clock_is_told_once() -> None:
    clock = SetClock()
    told: list[int] = []
    metrics = Metrics()
    pulse = Pulse(
        clock=clock,
        metrics=metrics,
        notifier=Notifier({}),
        stepped=lambda: told.append(clock.wall),
    )

    kernel = Kernel()
    loop = NodeLoop(kernel)  # type: ignore[abstract]  # what a hub needs of one
    running = loop.create_task(pulse.run())
    loop.pump()

    kernel.run_until(3 * SECOND)
    clock.wall += 3_600_000
    kernel.run_until(9 * SECOND)
    clock.wall -= 3_600_000
    kernel.run_until(12 * SECOND)
    running.cancel()
    loop.pump()
    clock.wall += 3_600_000
    kernel.run_until(15 * SECOND)

    assert told == [4_600_000, 1_000_000]
    assert running.cancelled()
