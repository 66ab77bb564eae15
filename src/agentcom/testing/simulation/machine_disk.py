"""What a computer keeps of its sidecar: bytes, as `sidecar/outbox.py` writes them."""

import msgspec

from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Record

KEPT_OFFERED_MAX = 256


class SidecarDisk:
    """What a computer keeps of its sidecar: bytes, as `sidecar/outbox.py` writes them."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.kept: dict[str, bytes] = {}
        self.refused: dict[str, None] = {}
        """Records that did not fit: their reports are sent all the same."""
        self.incarnation = 0
        self.full = False

    def records(self) -> tuple[Record, ...]:
        """Return every held record."""
        return tuple(read(data) for _, data in sorted(self.held.items()))

    def offered(self) -> tuple[Record, ...]:
        """Return the newest acknowledged results."""
        return tuple(read(data) for data in list(self.kept.values())[-KEPT_OFFERED_MAX:])

    def copy(self) -> "SidecarDisk":
        """Return the disk of a computer that was cloned."""
        other = SidecarDisk()
        other.held, other.kept = dict(self.held), dict(self.kept)
        other.incarnation = self.incarnation
        return other

    def perform(self, order: values.Order) -> values.Fact | None:
        """Carry out one order, and return what the machine is told of it."""
        match order:
            case values.Store(record):
                if self.full:
                    self.refused[record.key.text] = None
                    return values.NotStored(record.key, record.stage, "the disk is full")
                self.held[record.key.text] = msgspec.json.encode(record)
                return values.Stored(record.key, record.stage)
            case values.Forget(record, keep):
                data = self.held.pop(record.key.text, None)
                stored = read(data) if data is not None else None
                if keep and stored is not None and (stored.result or stored.landing) is not None:
                    self.kept[record.key.text] = data or b""
            case values.Offer():
                return values.Kept(self.offered())
            case values.Remember(incarnation):
                self.incarnation = incarnation
            case _:
                raise AssertionError(f"{order} is not the disk's")
        return None


def read(data: bytes) -> Record:
    """Return a record of its bytes."""
    return msgspec.json.decode(data, type=Record)
