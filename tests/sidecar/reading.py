"""What an agent's process says first, and no more."""

import contextlib

from agentcom.sidecar.process import AgentProcess


async def first_line(running: AgentProcess, prefix: bytes = b"") -> bytes:
    """Return the first line that begins with `prefix`, and stop reading."""
    async with contextlib.aclosing(running.lines()) as lines:
        async for _, line in lines:
            if line.startswith(prefix):
                return line
    raise AssertionError(prefix)
