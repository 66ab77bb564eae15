"""What the audit log's route answers."""

import msgspec

from agentcom.model.audit import AuditEntry


class AuditPage(msgspec.Struct, frozen=True):
    """Entries of the audit log, and where the next page begins."""

    entries: tuple[AuditEntry, ...]
    next: str | None = None
