"""A page is the same after every run, and hides nothing but what differs from run to run."""

from pathlib import Path

from tests.journeys.transcript import Shown, Transcript

TASK = "01m8g11x0re55vhzk6xc1gynb0"
TOKEN = "acm_usr_k3f9zq81_" + "Ab3" * 14


def page(*texts: str, **known: str) -> str:
    made = Transcript(folders={Path("/srv/run-17"): "~"})
    for found, name in known.items():
        made.knows(found, name)
    made.parts += [Shown("box", "show", text, 0) for text in texts]
    return made.render("Title")


def test_what_differs_from_run_to_run_has_a_steady_name() -> None:
    early = page(
        f"{TASK[-6:]} on 127.0.0.1:41235, pid 17, 12 s ago, {'a' * 40}, in /srv/run-17/x",
        **{TASK: "task01"},
    )

    assert "task01 on 127.0.0.1:7420, pid 4711, 3 s ago, " in early
    assert "in ~/x" in early
    assert "a" * 40 not in early


def test_things_of_a_kind_stay_apart() -> None:
    shown = page(
        "127.0.0.1:5001 127.0.0.1:5002 127.0.0.1:5001", f"{'a' * 40} {'b' * 40} {'a' * 12}"
    )

    assert "127.0.0.1:7420 127.0.0.1:7421 127.0.0.1:7420" in shown
    first, second, short = shown.splitlines()[-2].split()
    assert first != second
    assert first.startswith(short)


def test_columns_are_as_wide_as_the_names_that_stand_there() -> None:
    shown = page(f"ID                          WHAT\n{TASK}  done\n", **{TASK: "task01"})

    head, row = shown.splitlines()[4:6]
    assert head.index("WHAT") == row.index("done")


def test_a_cell_may_be_empty() -> None:
    shown = page("ID  AGENT  TITLE\nab         one\ncd  ann    two\n")

    assert "ab         one\ncd  ann    two" in shown


def test_a_token_is_not_published() -> None:
    assert TOKEN not in page(f"join {TOKEN}@sha256:{'0f' * 32}")


def test_an_exit_code_is_told_unless_all_is_well() -> None:
    made = Transcript(parts=[Shown("box", "false", "", 1), Shown("box", "true", "", 0)])

    assert made.render("T") == "# T\n\n```console\nbox$ false\n[exit code 1]\nbox$ true\n```\n"


def test_what_shows_a_fence_is_fenced_with_more() -> None:
    assert page("```steps\n```").count("````") == 2
