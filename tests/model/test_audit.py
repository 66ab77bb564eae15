from collections.abc import Sequence

import msgspec
import pytest

from agentcom.model import audit
from agentcom.model.audit import AuditEntry, AuditNote, Door, Head, Outcome, Verifier, parse_head
from agentcom.model.errors import InvalidInput
from agentcom.model.identity import Role
from agentcom.model.ids import WallTime

replace = msgspec.structs.replace


def chain(count: int, *, segment: int = 7) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for number in range(count):
        note = AuditNote(at=WallTime(number), action="token:revoke", target=f"token:{number}")
        entries.append(audit.follow(entries[-1] if entries else None, note, segment))
    return entries


def findings(
    entries: Sequence[AuditEntry], against: Head | None = None, key: bytes | None = None
) -> Sequence[str]:
    verifier = Verifier(against, key)
    for entry in entries:
        verifier.take(entry)
    return verifier.verdict().findings


def rehash(entries: Sequence[AuditEntry], first: int) -> list[AuditEntry]:
    """Make a chain whole again from a place on, as whoever can write the file may."""
    made = list(entries[:first])
    for entry in entries[first:]:
        before = made[-1].hash if made else audit.GENESIS
        bare = replace(entry, seq=len(made) + 1, before=before)
        made.append(replace(bare, hash=audit.digest_of(bare)))
    return made


def test_a_whole_chain_is_sound_and_tells_its_head() -> None:
    entries = chain(5)
    verifier = Verifier()
    for entry in entries:
        verifier.take(entry)
    verdict = verifier.verdict()

    assert (verdict.findings, verdict.entries, verdict.first) == ([], 5, 1)
    assert verdict.head == Head(5, entries[4].hash)
    assert parse_head(str(verdict.head)) == verdict.head


@pytest.mark.parametrize(
    "change",
    [
        {"who": "eve"},
        {"at": WallTime(99)},
        {"detail": {"x": "y"}},
        {"outcome": Outcome.REFUSED},
        {"hash": "0" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_entry_is_found(change: dict[str, object]) -> None:
    entries = chain(5)
    entries[2] = replace(entries[2], **change)

    assert any("entry 3 was changed" in found for found in findings(entries))


def test_an_entry_that_was_changed_with_its_hash_breaks_the_next_one() -> None:
    entries = chain(5)
    changed = replace(entries[2], who="eve")
    entries[2] = replace(changed, hash=audit.digest_of(changed))

    assert findings(entries) == ["entry 4 does not go on from entry 3"]


def test_a_removed_entry_is_found() -> None:
    entries = chain(5)
    del entries[2]

    assert findings(entries) == ["entries 3 to 3 are missing"]


def test_two_that_changed_places_are_found() -> None:
    entries = chain(5)
    entries[1], entries[3] = entries[3], entries[1]

    assert any("stands behind" in found for found in findings(entries))


def test_an_inserted_entry_is_found() -> None:
    entries = chain(5)
    forged = audit.follow(entries[1], AuditNote(at=WallTime(1), action="login"), 7)

    assert any("was put there" in found for found in findings([*entries[:3], forged, *entries[3:]]))


def test_a_cut_off_end_is_found_with_an_earlier_head_only() -> None:
    entries = chain(5)
    head = entries[4].head

    assert findings(entries[:3]) == []
    assert findings(entries[:3], head) == [
        "the log ends at entry 3, before the given head: its end was cut off"
    ]
    assert findings([], head) == ["the log is empty, before the given head: its end was cut off"]


def test_an_end_that_was_made_anew_is_found_with_an_earlier_head_only() -> None:
    entries = chain(5)
    head = entries[4].head
    anew = rehash([*entries[:2], *entries[3:], replace(entries[0], at=WallTime(9))], 2)

    assert findings(anew) == []
    assert "made anew" in findings(anew, head)[0]


def test_an_earlier_head_still_holds_when_the_log_has_grown() -> None:
    entries = chain(9)

    assert findings(entries, entries[3].head) == []


def test_a_removed_beginning_needs_a_cut() -> None:
    assert findings(chain(5)[2:]) == ["the log begins at entry 3, and no cut accounts for that"]


@pytest.mark.parametrize("sealed", [True, False])
def test_a_cut_is_accounted_for_by_its_entry_which_the_hub_seals(sealed: bool) -> None:
    entries = chain(5)
    gone, key = entries[1].head, b"the hub's"
    seal = audit.seal(key if sealed else b"another", gone)
    cut = AuditNote(
        at=WallTime(9), action=audit.CUT, target="1-2", detail={"hash": gone.hash, "seal": seal}
    )
    left = [*entries[2:], audit.follow(entries[4], cut, 7)]

    assert findings(left) == []
    assert (findings(left, key=key) == []) is sealed
    assert "give a newer one" in findings(left, entries[0].head)[0]


def test_a_restore_is_a_break_that_says_so() -> None:
    entries = chain(3)
    back = AuditNote(at=WallTime(50), action=audit.RESTORED, door=Door.COMMAND)
    after = audit.follow(entries[2], back, 8)
    verifier = Verifier()
    for entry in [*entries, after]:
        verifier.take(entry)
    verdict = verifier.verdict()

    assert verdict.findings == []
    assert [(one.seq, one.segment) for one in verdict.breaks] == [(4, 8)]


def test_a_head_of_what_a_restore_lost_is_told_apart() -> None:
    entries, lost = chain(3), chain(6)[5].head
    back = audit.follow(entries[2], AuditNote(at=WallTime(50), action=audit.RESTORED), 8)
    more = rehash([*entries, back, *(replace(one, segment=8) for one in chain(4))], 4)

    assert findings(more) == []
    assert "a copy was put back at entry 4" in findings(more, lost)[0]


def test_a_segment_that_nobody_announced_is_found() -> None:
    entries = chain(3)
    strange = audit.follow(entries[2], AuditNote(at=WallTime(50), action="login"), 8)
    older = audit.follow(strange, AuditNote(at=WallTime(51), action="login"), 7)

    found = findings([*entries, strange, older])
    assert "does not say why" in found[0]
    assert "older segment" in found[1]


@pytest.mark.parametrize("text", ["", "5", "x:" + "0" * 64, "5:00", "5:" + "g" * 64])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_head(text)


def test_hashes_of_stored_entries_never_change() -> None:
    note = AuditNote(
        at=WallTime(1_800_000_000_000),
        action="token:revoke",
        target="token:ab",
        who="ann",
        role=Role.ADMIN,
        credential="cd",
        address="127.0.0.1",
        door=Door.HTTP,
        cause="c-1",
        detail={"kind": "usr"},
    )

    entry = audit.follow(None, note, 7)

    assert entry.hash == GOLDEN, "logs that exist would no longer be sound"


GOLDEN = "c3b5e01b311d3d780c987c4da19fffa54f386dce8466a20a4248c98fc5702435"
