"""The drawing of who waits for whom."""

from agentcom.cli import waits

ONE, TWO, THREE = "0" * 25 + "1", "0" * 25 + "2", "0" * 25 + "3"


def row(**fields: object) -> dict[str, object]:
    return {"task": ONE, "title": "t", "by": "files", "what": "a", "on": (), "more": 0, **fields}


def test_an_arrow_leads_to_what_must_end_first() -> None:
    drawn = waits.dot({"waits": [row(on=(TWO, THREE), more=7)], "left_out": 2})

    assert drawn.splitlines() == [
        "digraph waits {",
        "  rankdir=LR;",
        f'  "{ONE}" [label="000001 t"];',
        f'  "{ONE}" -> "{TWO}" [label="files a"];',
        f'  "{ONE}" -> "{THREE}" [label="files a"];',
        f'  "{ONE}" -> "a: 7 others" [label="files"];',
        '  rest [shape=plaintext, label="and 2 more waits"];',
        "}",
    ]


def test_no_title_can_leave_its_quotes() -> None:
    drawn = waits.dot({"waits": [row(title='x"]; evil \\ \n"')], "left_out": 0})

    assert '[label="000001 x\\"]; evil \\\\  \\""];' in drawn
