"""The runs of one attempt: its own, and one more for each further turn of its agent.

The first run is in the attempt's folder, each later one in a folder of its own below it. What a
run was shown is kept beside it, so that a sidecar that starts again can tell the hub.
"""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agentcom.model.ids import AgentId
from agentcom.model.limits import CORRECTIONS_MAX, MAIL_TURNS_MAX
from agentcom.model.message import MessageId
from agentcom.sidecar import process, repositories, survivors
from agentcom.sidecar.machine_mail import Shown
from agentcom.sidecar.runtime import agent_cli, base

RUNS_MAX: Final = 1 + MAIL_TURNS_MAX + CORRECTIONS_MAX

_LETTERS: Final = "letters.json"
_CORRECTION: Final = "correction"
"""Stands in the folder of a run that mends what checks found."""


def folder(attempt: Path, number: int) -> Path:
    """Return the folder of an attempt's run; the first has number 1."""
    return attempt if number == 1 else attempt / f"run-{number}"


def known(attempt: Path) -> list[process.AgentProcess]:
    """Return the runs that were started, in order."""
    found: list[process.AgentProcess] = []
    for number in range(1, RUNS_MAX + 1):
        place = folder(attempt, number)
        record = survivors.read_record(place)
        if record is None:
            break
        found.append(process.AgentProcess(place, record))
    return found


def keep_letters(place: Path, letters: Shown) -> None:
    """Write down which letters a run shows."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    repositories.write(place / _LETTERS, msgspec.json.encode(letters).decode())


def letters_of(place: Path) -> Shown:
    """Return which letters a run showed."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        content = (place / _LETTERS).read_bytes()
        return msgspec.json.decode(content, type=dict[AgentId, dict[int, MessageId]])
    return {}


def keep_correction(place: Path) -> None:
    """Write down that a run mends what checks found."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    repositories.write(place / _CORRECTION, "")


def is_correction(place: Path) -> bool:
    """Tell whether a run mends what checks found."""
    return (place / _CORRECTION).exists()


def corrections(attempt: Path) -> int:
    """Return how many runs of an attempt were to mend what checks found."""
    return sum(is_correction(folder(attempt, number)) for number in range(2, RUNS_MAX + 1))


def joined(verdicts: Sequence[base.Verdict]) -> base.Verdict:
    """Return the verdict on an attempt: the last run's, with what all said and spent."""
    *_, last = verdicts
    if len(verdicts) == 1:
        return last
    said = "\n\n".join(verdict.summary for verdict in verdicts if verdict.summary)
    return msgspec.structs.replace(
        last,
        summary=said[: agent_cli.MESSAGE_CHARACTERS_MAX],
        usage=_sum(verdict.usage for verdict in verdicts),
    )


def _sum(parts: Iterable[base.Usage]) -> base.Usage:
    each = tuple(parts)
    return base.Usage(
        input=sum(spent.input for spent in each),
        cached=sum(spent.cached for spent in each),
        output=sum(spent.output for spent in each),
        written=sum(spent.written for spent in each),
        model=each[-1].model,
    )
