"""SECURITY.md names a proof for each promise: each must be there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
LINKS = re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT)
ATTACKERS = TEXT.partition("## Attackers")[2].partition("### The hub's operator")[0]


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_what_it_points_to_is_there(link: str) -> None:
    found = ROOT / link

    assert found.is_file()
    if link.startswith("tests/"):
        assert re.search(r"^(async )?def test_", found.read_text("utf-8"), re.MULTILINE)


def test_every_threat_names_a_test() -> None:
    rows = [line for line in ATTACKERS.splitlines() if line.startswith("| ")]
    threats = [row for row in rows if not row.startswith(("| they try", "| it tries"))]

    assert len(threats) > 20
    assert [row for row in threats if "](tests/" not in row] == []


@pytest.mark.parametrize(
    "name",
    [*(f"API{number}" for number in range(1, 11)), *(f"ASI{n:02d}" for n in range(1, 11))],
)
def test_every_risk_of_both_lists_is_answered(name: str) -> None:
    assert len(re.findall(rf"^\| {name} ", TEXT, re.MULTILINE)) == 1
