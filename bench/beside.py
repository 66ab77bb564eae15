"""What an assignment waits for in the event loop while posts go to many readers.

Run `python -m bench.beside [--readers 1000] [--seconds 10]`. In one process, without sockets: a
post ten times a second goes to readers that cost what a write costs, and now and then something
goes four rounds through the loop, as an assignment does. What counts is the CPU that the loop
spent meanwhile on others, so it can be measured on a machine that does other things too.
"""

import argparse
import asyncio
import importlib
import time
from collections.abc import Sequence
from typing import Final

from agentcom.hub.followers import Followers, Following
from agentcom.model.address import Address
from agentcom.model.ids import WallTime
from agentcom.model.message import Message, MessageId
from agentcom.protocol.told import Letter

LOG: Final = "channel/default/project"
WRITE_S: Final = 9e-6  # of CPU, for one frame to one socket
POST_S: Final = 0.1
PASS_S: Final = 0.017  # no divisor of the posts' pace, so that it meets all moments of theirs
ROUNDS: Final = 4  # read, decide and commit, carry out, write


class Reader:
    """A sink whose writes cost CPU, at once or at the end of this round of the loop."""

    buffered_bytes = 0

    def records(self, first: int, payloads: Sequence[bytes], *, at_once: bool = False) -> None:  # noqa: ARG002  # nobody reads them
        """Spend what a write costs."""
        if at_once:
            _write()
        else:
            asyncio.get_running_loop().call_soon(_write)

    def activity(self, payload: bytes) -> None:
        """Take nothing."""

    def too_slow(self) -> None:
        """Stay."""


def _write() -> None:
    until = time.thread_time() + WRITE_S
    while time.thread_time() < until:
        pass


async def measure(readers: int, seconds: float) -> list[float]:
    """Return the CPU of others in each passage through the loop, in milliseconds, in order."""
    followers, found = Followers(_nothing_stored), list[float]()
    for _ in range(readers):
        owner = Address("user:ann")
        one = Following(Reader(), LOG, "channel/project", owner=owner, ended=lambda: None)
        followers.enter(one)
        followers.begin(one, 0)
    async with asyncio.TaskGroup() as group:
        group.create_task(_post(followers, seconds))
        group.create_task(_pass(found, seconds))
    return sorted(found)


async def _nothing_stored(_log: str, _after: int, _limit: int) -> Sequence[Letter]:
    return ()


async def _post(followers: Followers, seconds: float) -> None:
    for seq in range(1, int(seconds / POST_S) + 1):
        name = MessageId(f"m{seq}")
        sender, body = Address("user:ann"), "x" * 270
        message = Message(id=name, thread=name, sender=sender, at=WallTime(1), body=body)
        followers.publish(LOG, Letter(seq=seq, message=message))
        await asyncio.sleep(POST_S)


async def _pass(found: list[float], seconds: float) -> None:
    for _ in range(int(seconds / PASS_S)):
        began = time.thread_time()
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        found.append((time.thread_time() - began) * 1_000)
        await asyncio.sleep(PASS_S)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    run = importlib.import_module("uvloop").run
    found = run(measure(options.readers, options.seconds))
    parts = [f"p{part} {found[len(found) * part // 100]:.3f} ms" for part in (50, 90, 99)]
    print(f"CPU of others in {ROUNDS} rounds of the loop: {', '.join(parts)}")


if __name__ == "__main__":
    main()
