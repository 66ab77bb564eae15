"""Recorded sessions between a machine and a hub, and how one side of them is played again.

A recording is a list of steps: what a person did, and every frame that either side sent, in the
order in which it passed. Whoever plays one side again sends that side's frames as they were
written down, bytes of a released version, and compares what the other side answers today: each
frame must come, with every field that it had, of the same kind. Names that differ from run to run
(tasks, fences, sessions, commits) are learnt on the way.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "recordings"
BY_THE_CLOCK: Final = frozenset({"heartbeat", "beat"})
"""The players answer these, and do not count them."""
LOSSY: Final = BY_THE_CLOCK | {"progress", "usage"}
"""Frames that may come as often as they like; so may what acknowledges them."""
_NAME_CHARS: Final = 6
"""A shorter word, such as a state, is the same in every run."""

Frame = dict[str, Any]


class Broken(AssertionError):
    """Today's side does not do what the recorded one did."""


def recordings() -> list[Path]:
    """Return every recording, oldest version first."""
    return sorted(FOLDER.glob("*.jsonl"))


def load(path: Path) -> list[dict[str, Any]]:
    """Return the steps of a recording."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class Names:
    """What today's run calls the things of the recording."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._words = dict(known)
        self._fences: dict[tuple[int, int], list[int]] = {}
        self._sessions: dict[int, int] = {}

    def now(self, value: Any, field: str = "") -> Any:
        """Return a recorded value with today's names."""
        if isinstance(value, str):
            for before, now in self._words.items():
                value = value.replace(before, now)
            return value
        if isinstance(value, list):
            if _is_fence(value):
                return self._fences.get((value[0], value[1]), value)
            return [self.now(item, field) for item in value]
        if isinstance(value, dict):
            return {name: self.now(item, name) for name, item in value.items()}
        return self._sessions.get(value, value) if field == "session" else value

    def learn(self, before: Any, now: Any, where: str = "$") -> None:
        """Take the names from a recorded value and today's, which must have all that it had."""
        if type(before) is not type(now):
            raise Broken(f"{where} was {before!r}, and is {now!r}")
        if isinstance(before, dict):
            self._learn_fields(before, now, where)
        elif isinstance(before, list):
            if _is_fence(before):
                self._fences[before[0], before[1]] = now
            for index, (one, other) in enumerate(zip(before, now, strict=False)):
                self.learn(one, other, f"{where}[{index}]")
        elif isinstance(before, str):
            if before != now and len(before) >= _NAME_CHARS and " " not in before:
                self._words[before] = now
        elif where.endswith(".session"):
            self._sessions[before] = now

    def _learn_fields(self, before: Frame, now: Frame, where: str) -> None:
        for name, value in before.items():
            if name not in now:
                raise Broken(f"{where} has no {name} any more; it was {value!r}")
            self.learn(value, now[name], f"{where}.{name}")


class Player:
    """Plays `side` of a recording: the frames of the other side are compared as they come."""

    def __init__(self, steps: list[dict[str, Any]], side: str, names: Names) -> None:
        self._steps = [step for step in steps if _counts(step, side)]
        self._side = side
        self._got: list[Frame] = []
        self.names = names

    def take(self, frame: Frame) -> None:
        """Note what the other side sent."""
        if frame["type"] not in LOSSY:
            self._got.append(frame)

    def steps(self) -> Iterator[dict[str, Any]]:
        """Yield the steps that are to be done, with today's names; each when its time has come.

        A step of the other side is yielded until the frame that it awaits is there.
        """
        for step in self._steps:
            if step["by"] in (self._side, "person"):
                yield self.names.now(step)
                continue
            while not self._met(step["frame"]):
                yield {"by": "wait", "frame": step["frame"], "got": self._got}

    def _met(self, awaited: Frame) -> bool:
        wanted: Callable[[Frame], bool] = lambda got: (  # noqa: E731 - names its two tests
            got["type"] == awaited["type"]
            and self.names.now(awaited).get("of") == got.get("of")
            and _same_task(self.names.now(awaited), got, awaited)
        )
        found = next((got for got in self._got if wanted(got)), None)
        if found is None:
            return False
        self._got.remove(found)
        self.names.learn(awaited, found, f"$({awaited['type']})")
        return True


def _same_task(now: Frame, got: Frame, before: Frame) -> bool:
    """Whether two frames are about one task; a name that is not known yet may be any."""
    return now.get("task") == got.get("task") or now.get("task") == before.get("task")


def _is_fence(value: list[Any]) -> bool:
    return len(value) == 2 and all(type(it) is int for it in value)


def _counts(step: dict[str, Any], side: str) -> bool:
    if step["by"] == "person":
        return True
    frame = step["frame"]
    if step["by"] == side:
        return frame["type"] not in BY_THE_CLOCK
    return frame["type"] not in LOSSY and frame.get("of") not in LOSSY
