"""All who talk through the hub in a run: who locks, writes, asks, and posts."""

from collections.abc import Callable, Iterable

from agentcom.model.batch import Batch
from agentcom.model.ids import WallTime
from agentcom.testing.simulation.books import Books
from agentcom.testing.simulation.correspondents import Correspondents
from agentcom.testing.simulation.hub_node import HubNode
from agentcom.testing.simulation.inquirer import Inquirer
from agentcom.testing.simulation.kernel import Kernel
from agentcom.testing.simulation.locksmith import Locksmith
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.posters import Posters
from agentcom.testing.simulation.trace import Trace


class Talkers:
    """Has them talk, and looks at what comes of it."""

    def __init__(
        self,
        kernel: Kernel,
        options: Options,
        hub: HubNode,
        books: Callable[[], Books],
        trace: Trace,
    ) -> None:
        self._locks = Locksmith(kernel, options, hub, books, trace)
        self._mail = Correspondents(kernel, options, hub, books, trace)
        self.inquirer = Inquirer(kernel, options, hub, books, trace)
        self._posts = Posters(kernel, options, hub, books, trace)

    @property
    def rests(self) -> bool:
        """Whether there is nothing left to say."""
        return self._locks.rests and self._mail.rests and self.inquirer.rests

    def start(self) -> None:
        """Let them talk, for as long as the run goes."""
        self._locks.start()
        self._mail.start()
        self.inquirer.start()
        self._posts.start()

    def stop(self) -> None:
        """Begin nothing new."""
        self._locks.stopped = self._mail.stopped = self.inquirer.stopped = True
        self._posts.stopped = True

    def rest(self) -> None:
        """End what was begun."""
        self._locks.rest()
        self._mail.rest()
        self.inquirer.rest()

    def restored(self, batches: Iterable[Batch]) -> None:
        """Begin anew with what a restored store holds."""
        self._locks.restored(batches)
        self._mail.restored(batches)
        self.inquirer.restored(batches)
        self._posts.restored(batches)

    def committed(self, batch: Batch) -> None:
        """Look at a durable batch, which the books have taken down."""
        self._locks.committed(batch)
        self._mail.committed(batch)
        self.inquirer.committed(batch)
        self._posts.committed(batch)

    def check_over(self, now: WallTime) -> None:
        """Look at what is there at the end."""
        self._locks.check_over(now)
        self._mail.check_over()
        self.inquirer.check_over(now)
        self._posts.check_over()
