"""What a store raises when there is no verdict."""

from agentcom.model.errors import AgentComError
from agentcom.model.ids import BatchId


class StoreFailed(Exception):
    """The store cannot be trusted any more: never retried; the hub stops and starts again."""


class StoreDamaged(AgentComError, StoreFailed):
    """A part of the store cannot be read: put a sound copy back (`agentcom backup restore`)."""

    code = "store_damaged"
    status = 500


class CommitUnknown(Exception):
    """Nobody can say yet whether `batch` is committed: ask `outcome`, never assume."""

    def __init__(self, batch: BatchId) -> None:
        super().__init__(f"the fate of batch {batch} is unknown")
        self.batch = batch
