"""A round of this project's own hub: `agentcom hub run` and the clients of the other benchmarks."""

import contextlib
from typing import Any

from agentcom.testing.hub_process import HubProcess
from agentcom.testing.peers import peer
from bench.load import client, machine
from bench.peers.job import SLOTS

WARM = 200
ROUND_S = 60.0


def a_round(*, seconds: float, dispatches: int, per_s: float) -> dict[str, Any]:
    """Return lifecycles a second, and the times from submit to the handler's first line."""
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(HubProcess())
        submitter = stack.enter_context(peer(client, hub.url, hub.user("ada")))
        far = stack.enter_context(peer(machine, hub.url, hub.machine("w"), SLOTS))
        submitter.hear()
        far.tell("work")
        far.hear()
        submitter.ask(("run", WARM // 4), ROUND_S)
        _, took_s = submitter.ask(("run", WARM), ROUND_S)
        count = int(WARM / took_s * seconds)
        before = [process.cpu_s() for process in (hub, submitter, far)]
        _, took_s = submitter.ask(("run", count), ROUND_S)
        after = [process.cpu_s() for process in (hub, submitter, far)]
        called: dict[str, int] = submitter.ask(("pace", per_s, dispatches), ROUND_S)
        began: dict[str, int] = far.ask("stop", ROUND_S)
        submitter.tell(None)
    latencies = [round((began[task] - at) / 1e6, 3) for task, at in called.items()]
    cpu_us = (sum(after) - sum(before)) / count * 1e6
    return {"per_s": count / took_s, "count": count, "cpu_us": cpu_us, "latencies_ms": latencies}
