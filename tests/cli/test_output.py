import io
import json

import click
import pytest

from agentcom.cli import errors, output
from agentcom.cli.output import Column

ROWS = [
    {"id": "01abcdef", "state": "completed", "title": "Fix \x1b[31mit\nnow"},
    {"id": "01ghijkl", "state": "failed", "title": "Other"},
]
COLUMNS = (
    Column("ID", lambda row: output.short(row["id"])),
    Column("STATE", lambda row: row["state"]),
    Column("TITLE", lambda row: row["title"]),
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")


@click.command(cls=output.JsonCommand, fields=("id", "state"))
@click.argument("name")
def shown(name: str, as_json: tuple[str, ...] | None) -> None:
    click.echo(f"{name} {as_json}")


def test_a_pipe_gets_tabs_whole_ids_and_no_head(capsys: pytest.CaptureFixture[str]) -> None:
    output.listing(ROWS, COLUMNS, as_json=None)

    assert capsys.readouterr().out == (
        "01abcdef\tcompleted\tFix  [31mit now\n01ghijkl\tfailed\tOther\n"
    )


@pytest.mark.usefixtures("terminal")
def test_a_terminal_gets_a_table_with_short_ids(capsys: pytest.CaptureFixture[str]) -> None:
    output.listing(ROWS, COLUMNS, as_json=None)

    assert capsys.readouterr().out == (
        "ID      STATE      TITLE\nabcdef  completed  Fix  [31mit now\nghijkl  failed     Other\n"
    )


@pytest.mark.usefixtures("terminal")
def test_a_long_last_column_is_cut_to_the_width(capsys: pytest.CaptureFixture[str]) -> None:
    output.listing([{**ROWS[1], "title": "x" * 200}], COLUMNS, as_json=None)

    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


@pytest.mark.usefixtures("terminal")
def test_no_colour_is_shown_to_who_wants_none(capsys: pytest.CaptureFixture[str]) -> None:
    output.listing(ROWS, COLUMNS, as_json=None)

    assert "\x1b" not in capsys.readouterr().out


def test_json_has_the_wanted_fields_and_null_for_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.listing(ROWS, COLUMNS, as_json=("id", "agent"))

    assert json.loads(capsys.readouterr().out) == [
        {"id": "01abcdef", "agent": None},
        {"id": "01ghijkl", "agent": None},
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--json", "ann"], "ann ('id', 'state')"),
        (["ann", "--json"], "ann ('id', 'state')"),
        (["--json", "state,id", "ann"], "ann ('state', 'id')"),
        (["ann", "--json=id"], "ann ('id',)"),
        (["ann"], "ann None"),
    ],
    ids=["name after", "bare", "fields", "equals", "none"],
)
def test_json_takes_fields_but_no_argument(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.run(shown, words) == 0
    assert capsys.readouterr().out.strip() == expected


def test_an_unknown_field_is_a_usage_error_that_lists_the_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert errors.run(shown, ["ann", "--json=colour"]) == 2
    assert "known are id, state" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--json", "colour"], ["--json", "id,colour"]])
def test_a_word_that_can_only_be_a_field_is_refused_as_one(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command(cls=output.JsonCommand, fields=("id", "state"))
    def listed(as_json: tuple[str, ...] | None) -> None:
        raise AssertionError(as_json)

    assert errors.run(listed, words) == 2
    assert "unknown field colour; known are id, state" in capsys.readouterr().err


def test_of_several_fields_the_unknown_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.run(shown, ["ann", "--json", "id,colour"]) == 2
    assert "unknown field colour" in capsys.readouterr().err


def test_nothing_that_an_agent_says_steers_the_terminal() -> None:
    orders = "a\x1b]0;title\x07b\x1b]52;c;cHduZWQ=\x1b\\c\x1b[2J\x1b[31mred\x1b[0m\u202e\x9b1A"
    said = f"{orders}\r\nnext\ttab\rover\n"

    assert output.lines(said) == "abcred1A\nnext\ttab\nover\n"
    assert output.plain("x\u202ey\u200bz") == "x y z"


def test_where_nobody_can_be_asked_the_flag_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())

    @click.command()
    def removing() -> None:
        output.confirm("Remove it?")

    assert errors.run(removing, []) == 2
    assert "try: --yes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("micros", "shown"),
    [(0, "$0.00"), (7, "$0.000007"), (1_200, "$0.0012"), (12_345_678_900, "$12,345.68")],
)
def test_money_is_shown_to_the_cent_and_small_sums_exactly(micros: int, shown: str) -> None:
    assert output.dollars(micros) == shown


def test_what_is_not_money_stands_beside_it() -> None:
    row = {"turns": 6, "cost_micros": 20_000, "unpriced": 2, "included": 1}

    assert output.cost(row) == "$0.02, 2 unpriced, 1 included"
    assert output.cost({**row, "turns": 3}) == "2 unpriced, 1 included"
