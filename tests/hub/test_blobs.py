import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentcom.hub.blobs import Blobs, QuotaFull
from agentcom.hub.speaking import Speaker
from agentcom.hub.writing import Asked, Writer
from agentcom.model import limits
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.message import Attachment
from agentcom.model.shared_note import Blob
from tests.hub.doubles import CountingIds, ManualClock, YieldingStore
from tests.hub.test_notes import ANN, BOB, person

EVE = person("eve", "other")


@dataclass
class House:
    blobs: Blobs
    folder: Path
    clock: ManualClock

    async def put(self, data: bytes, who: Speaker = ANN, name: str = "f") -> Blob:
        asked = Asked(cause="t")
        blob = await self.blobs.put(who, data, name=name, media="text/html", asked=asked)
        assert isinstance(blob, Blob)
        return blob

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def house(tmp_path: Path) -> House:
    store, clock = YieldingStore(), ManualClock()
    folder = tmp_path / "blobs"
    return House(Blobs(folder, store, Writer(store, clock, CountingIds()), clock), folder, clock)


async def test_a_file_comes_back_by_its_content(house: House) -> None:
    blob = await house.put(b"hello")

    assert blob.digest == hashlib.sha256(b"hello").hexdigest()
    assert (await house.blobs.get(BOB, blob.digest))[1] == b"hello"
    assert house.files() == [blob.digest]
    with pytest.raises(NotFound):
        await house.blobs.get(EVE, blob.digest)


async def test_what_is_no_digest_reaches_no_file(house: House) -> None:
    for digest in ("../../etc/passwd", "A" * 64, "0" * 63, ""):
        with pytest.raises(InvalidInput):
            await house.blobs.get(ANN, digest)
    with pytest.raises(NotFound):
        await house.blobs.get(ANN, "0" * 64)


async def test_an_attachment_must_have_been_sent(house: House) -> None:
    blob = await house.put(b"hello")

    await house.blobs.check(ANN.project, [Attachment(blob.digest, "f", 5)])
    with pytest.raises(InvalidInput):
        await house.blobs.check(ANN.project, [Attachment(blob.digest, "f", 6)])
    with pytest.raises(NotFound):
        await house.blobs.check(EVE.project, [Attachment(blob.digest)])


async def test_a_project_has_only_so_much_room(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLOBS_BYTES", 10)
    await house.put(b"12345")
    await house.put(b"12345", BOB)  # the same content counts once

    with pytest.raises(QuotaFull):
        await house.put(b"123456")
    await house.put(b"123456", EVE)


async def test_bad_files_are_refused(house: House) -> None:
    with pytest.raises(InvalidInput):
        await house.put(b"")
    with pytest.raises(InvalidInput):
        await house.put(b"x", name="x" * 201)


async def test_a_file_that_nobody_sent_for_long_goes(house: House) -> None:
    old = await house.put(b"old")
    shared = await house.put(b"shared")
    house.clock.advance(limits.BLOB_KEEP_MS)
    await house.put(b"shared", EVE)
    await house.put(b"new")

    assert await house.blobs.prune(house.clock.now().wall) == 2
    assert old.digest not in house.files()
    assert shared.digest in house.files()
    with pytest.raises(NotFound):
        await house.blobs.get(ANN, shared.digest)
    assert (await house.blobs.get(EVE, shared.digest))[1] == b"shared"


async def test_a_file_that_is_sent_again_stays(house: House) -> None:
    await house.put(b"kept")
    house.clock.advance(limits.BLOB_KEEP_MS)
    blob = await house.put(b"kept")

    assert await house.blobs.prune(house.clock.now().wall) == 0
    assert (await house.blobs.get(ANN, blob.digest))[1] == b"kept"


async def test_a_damaged_file_is_told(house: House) -> None:
    blob = await house.put(b"hello")
    (house.folder / blob.digest[:2] / blob.digest).write_bytes(b"hellO")

    with pytest.raises(NotFound, match="damaged"):
        await house.blobs.get(ANN, blob.digest)
