"""A session's lease runs from the receipt of a heartbeat."""

from agentcom.core.parts import Session
from agentcom.model.ids import Instant


def test_a_renewal_counts_from_now_and_ends_a_suspicion() -> None:
    session = Session(1, ttl_ms=20_000, margin_ms=5_000, connection=None)
    session.suspect = True

    session.renew(Instant(1_000))

    assert not session.suspect
    assert (session.suspect_at, session.expires_at) == (11_000, 26_000)
