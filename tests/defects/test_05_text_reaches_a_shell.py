"""Defect 5: the text of a task reached a shell."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcom.client.hub import HubClient
from agentcom.model.errors import AgentComError
from agentcom.model.task import TaskState
from agentcom.sidecar import processes
from agentcom.testing.hub import running_hub
from tests.defects.house import WRITE, command, edit, ended, machine_config, sidecar_on
from tests.sidecar.git_origin import Origin, git

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    """A file that appears if any of the text is executed."""
    path = tmp_path / "EXECUTED"
    yield path
    assert not path.exists()


def _bait(trap: Path) -> str:
    return f"\"; touch {trap}; ' ; touch {trap} ; $(touch {trap}) `touch {trap}` | touch {trap}"


async def test_title_prompt_command_and_checks_are_never_executed_as_text(
    tmp_path: Path, trap: Path
) -> None:
    bait = _bait(trap)
    origin = Origin(tmp_path / "forge")
    origin.push({"README.md": "x\n"})
    async with running_hub() as hub:
        home = machine_config(tmp_path, hub=hub.url, admitted=await hub.machine("m1"))
        async with sidecar_on(home), await HubClient.connect(hub.url, hub.admin_token) as client:
            plain = command("printf", "%s", bait, prompt=bait)
            refused = edit(origin.url, WRITE, verify=(f"test -e hello.txt ; touch {trap}",))
            with pytest.raises(AgentComError, match="no shell runs it"):
                await client.submit([refused])
            checks = (f"test -e hello.txt '; touch {trap}'",)
            work = edit(origin.url, WRITE, title=bait[:200], verify=checks, failures_max=1)
            (work_id,) = (await client.submit([work])).tasks
            (plain_id,) = (await client.submit([plain])).tasks
            row, simple = await ended(client, work_id), await ended(client, plain_id)

    task_file = next((tmp_path / "machine" / "attempts").glob(f"{plain_id}*/task.json"))
    stdout = next((tmp_path / "machine" / "attempts").glob(f"{plain_id}*/stdout.log"))
    assert simple.state is TaskState.COMPLETED
    assert json.loads(task_file.read_text())["prompt"] == bait
    assert stdout.read_text() == bait
    assert row.failure is not None  # `;` is an argument of `test`, which refuses it
    names = git(origin.path, "for-each-ref", "--format=%(refname:short)").splitlines()
    assert all(set(name) <= _BRANCH for name in names)


_BRANCH = set("abcdefghijklmnopqrstuvwxyz0123456789-./")
