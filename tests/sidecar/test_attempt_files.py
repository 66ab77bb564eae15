"""What is kept of an agent's output, however it comes in pieces."""

import itertools
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agentcom.sidecar import attempt_files

GOES_ON = b'{"more"'


def log(path: Path, *, bytes_max: int = 1 << 20) -> attempt_files.BoundedLog:
    return attempt_files.BoundedLog(
        str(path), bytes_max=bytes_max, tail_bytes=1_000, line_bytes_max=1 << 20, brief=(GOES_ON,)
    )


def test_of_lines_that_only_go_on_the_start_is_kept(tmp_path: Path) -> None:
    kept = log(tmp_path / "log", bytes_max=64 << 10)
    for _ in range(100):
        kept.write(GOES_ON + b"x" * 100_000 + b"\n")
    kept.write(b'{"end":true}')
    kept.finish(durable=True)

    *more, end = (tmp_path / "log").read_bytes().split(b"\n")
    assert end == b'{"end":true}'
    assert {len(line) for line in more} == {attempt_files.BRIEF_BYTES}
    assert not kept.truncated


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=8),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_other_lines_are_kept_whole(lines: list[bytes], cuts: list[int]) -> None:
    whole = b"\n".join(lines)
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    brief = attempt_files.BriefLines((GOES_ON,))

    kept = b"".join(brief.cut(whole[a:b]) for a, b in itertools.pairwise(edges))

    assert kept + brief.rest() == whole
