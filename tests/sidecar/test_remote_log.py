"""A whole log is read through the hub from the machine that has it, live and afterwards."""

from pathlib import Path

import pytest

from agentcom.sidecar import processes
from agentcom.testing.waiting import until
from tests.sidecar.whole_hub import world

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")


async def test_a_log_is_read_from_its_machine_by_offset_while_it_grows_and_when_it_is_over(
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    async with world(tmp_path) as fleet:
        task = await fleet.submit({"say": "zwölf\n"}, {"wait_for": str(go)}, {"say": "after"})

        async def read(**part: int) -> dict[str, object]:
            answer = await fleet.hub.http.get(f"/api/v1/tasks/{task}/logs", params=part)
            return {"status": answer.status_code, **answer.json()}

        async def begun() -> bool:
            return "zwölf" in str((await read()).get("text"))

        await until(begun, patience_s=60)
        live = await read(offset=0)
        go.touch()
        await fleet.ended(task)
        rest = await read(offset=int(str(live["next"])))
        whole = await read(attempt=1)
        beyond = await read(offset=1 << 40)
        never = await read(attempt=7)
        await fleet.stop()
        away = await read(offset=0)
        fleet.start()

    assert str(live["text"]).startswith("zwölf")
    assert str(live["text"]) + str(rest["text"]) == whole["text"]
    assert "after" in str(whole["text"])
    assert whole["next"] == whole["size"] == len(str(whole["text"]).encode())
    assert (beyond["text"], beyond["next"]) == ("", whole["size"])
    assert (never["status"], away["status"]) == (404, 503)
