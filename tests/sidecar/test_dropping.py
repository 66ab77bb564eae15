"""Files by which an agent asks for sub-tasks, and what it gets back."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentcom.model.task import TaskSpec
from agentcom.protocol import frames
from agentcom.sidecar import dropping
from agentcom.sidecar import machine_values as values
from agentcom.testing.waiting import until
from tests.sidecar.machine_world import key

ONE = {"title": "One", "prompt": "p"}
MADE = msgspec.Raw(b'{"type":"submitted","tasks":["t9"]}')


class Hub:
    """Answers each question the same way; holds back those that shall wait."""

    def __init__(self, answer: dropping.Answer = MADE) -> None:
        self.asked: list[values.Asked] = []
        self.answer = answer
        self.go = asyncio.Event()
        self.go.set()

    async def ask(self, asked: values.Asked) -> dropping.Answer:
        self.asked.append(asked)
        await self.go.wait()
        return self.answer


def drop(where: Path, name: str, content: Any) -> Path:
    folder = where / ".agentcom" / "submit"
    folder.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (where / ".agentcom" / "draft").write_text(text)
    (where / ".agentcom" / "draft").rename(folder / name)
    return folder / name


def answer(where: Path, name: str) -> Any:
    return json.loads((where / ".agentcom" / "submitted" / name).read_bytes())


async def test_what_is_dropped_is_asked_for_and_answered(tmp_path: Path) -> None:
    hub = Hub()
    async with dropping.served(key(), tmp_path, hub.ask):
        path = drop(tmp_path, "more.json", [ONE, {"title": "Two", "prompt": "q", "ref": "x"}])
        await until(lambda: not path.exists())

    assert [spec.title for spec in hub.asked[0].tasks] == ["One", "Two"]
    assert hub.asked[0].key == key()
    assert answer(tmp_path, "more.json") == {"type": "submitted", "tasks": ["t9"]}


async def test_the_last_words_of_an_agent_are_asked_for_when_it_has_ended(tmp_path: Path) -> None:
    hub = Hub()
    hub.go.clear()
    async with dropping.served(key(), tmp_path, hub.ask):
        drop(tmp_path, "a.json", ONE)
        drop(tmp_path, "b.json", {"tasks": [ONE]})

    assert len(hub.asked) == 2
    assert (tmp_path / ".agentcom/submit/a.json").exists()


async def test_a_request_keeps_its_name_for_the_hub_and_another_text_has_another(
    tmp_path: Path,
) -> None:
    hub = Hub()
    for content in (ONE, ONE, {**ONE, "title": "Other"}):
        drop(tmp_path, "same.json", content)
        async with dropping.served(key(), tmp_path, hub.ask):
            pass

    first, again, other = [asked.name for asked in hub.asked]
    assert first == again != other


async def test_a_refusal_is_told(tmp_path: Path) -> None:
    hub = Hub(frames.ErrorFrame(code="stale", message="too late"))
    drop(tmp_path, "a.json", ONE)
    async with dropping.served(key(), tmp_path, hub.ask):
        await until((tmp_path / ".agentcom/submitted/a.json").exists)

    assert answer(tmp_path, "a.json") == {"error": {"code": "stale", "message": "too late"}}


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[" * 10_000,
        [{"title": "t", "prompt": "p", "budget": 3}],
        {"title": 7},
        " " * (dropping.DROP_BYTES_MAX + 1),
    ],
)
async def test_what_is_not_understood_is_answered_and_asks_nothing(
    tmp_path: Path, content: Any
) -> None:
    hub = Hub()
    drop(tmp_path, "a.json", content)
    async with dropping.served(key(), tmp_path, hub.ask):
        await until((tmp_path / ".agentcom/submitted/a.json").exists)

    assert answer(tmp_path, "a.json")["error"]["code"] == "invalid_input"
    assert hub.asked == []


async def test_only_plain_files_with_plain_names_are_read(tmp_path: Path) -> None:
    drop(tmp_path, ".hidden.json", ONE)
    drop(tmp_path, "draft.json.tmp", ONE)
    secret = tmp_path / "secret"
    secret.write_text(json.dumps(ONE))
    folder = tmp_path / ".agentcom" / "submit"
    (folder / "link.json").symlink_to(secret)
    os.mkfifo(folder / "pipe.json")

    assert list(dropping.waiting(tmp_path)) == [("link.json", None), ("pipe.json", None)]
    with pytest.raises(ValueError, match="no plain file"):
        dropping.parse(None)


async def test_folders_that_are_links_are_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    drop(elsewhere, "a.json", ONE)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / ".agentcom").symlink_to(elsewhere / ".agentcom")
    assert list(dropping.waiting(inside)) == []

    other = tmp_path / "other"
    drop(other, "a.json", ONE)
    (other / ".agentcom" / "submitted").symlink_to(elsewhere)
    hub = Hub()
    async with dropping.served(key(), other, hub.ask):
        await until(lambda: len(hub.asked) >= 1)

    assert [path.name for path in elsewhere.iterdir()] == [".agentcom"]


async def test_a_folder_where_nothing_is_dropped_stays_as_it_is(tmp_path: Path) -> None:
    async with dropping.served(key(), tmp_path, Hub().ask):
        pass

    assert os.listdir(tmp_path) == []  # noqa: PTH208 - no wait, in a test


def test_one_task_may_stand_alone() -> None:
    assert dropping.parse(json.dumps(ONE).encode()) == (TaskSpec(title="One", prompt="p"),)
