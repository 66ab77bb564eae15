"""Work that is done without waiting, and does not keep the event loop from others."""

import asyncio


class Passes:
    """Lets what never waits wait for others: after all but the first of the things in one pass.

    The first one has nothing to make up for, and who sends its outcome on is not kept from it.
    """

    def __init__(self) -> None:
        self._begun = False

    async def count(self) -> None:
        """Count a thing that was done."""
        if self._begun:
            await asyncio.sleep(0)
            return
        self._begun = True
        asyncio.get_running_loop().call_soon(self._over)

    def _over(self) -> None:
        self._begun = False
