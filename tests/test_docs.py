"""The documentation says what is true: names, generated parts, links, and the commands in it."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from agentcom.cli.root import root
from agentcom.core import tasks
from agentcom.model import declaring, limits, project_file
from docs.tools import blocks, generate, source, wire, words

ROOT = Path(__file__).parent.parent
PAGES = list(generate.pages(ROOT))
REFERENCE = ROOT / "docs" / "reference"
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
RUNNABLE = re.compile(r"<!-- run -->\n```console\n(.*?)```", re.DOTALL)
COMMAND_S = 30.0
LEAVES_A_REGISTRY = re.compile(
    r"https?://(?!127\.0\.0\.1|10\.|hub\.example|github\.com|semver\.org)"
)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def page(stem: str) -> str:
    return (REFERENCE / f"{stem}.md").read_text("utf-8")


def missing(wanted: Iterator[str] | list[str] | set[str], text: str) -> list[str]:
    return sorted(one for one in wanted if f"`{one}`" not in text)


# Generated parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_generated_parts_are_as_the_code_says(path: Path) -> None:
    text = path.read_text("utf-8")

    assert generate.render(text) == text, "run: python -m docs.tools.generate"


def test_every_generated_part_has_a_place() -> None:
    placed = [one for path in PAGES for one in generate.names(path.read_text("utf-8"))]

    assert sorted(placed) == sorted(generate.BLOCKS)


def test_a_stale_page_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("nothing to generate\n")
    stale = tmp_path / "docs" / "exits.md"
    stale.write_text("before\n<!-- generated: exit-codes -->\nold\n<!-- end -->\nafter\n")

    assert generate.main(["--root", str(tmp_path), "--check"]) == 1
    assert generate.main(["--root", str(tmp_path)]) == 0
    assert generate.main(["--root", str(tmp_path), "--check"]) == 0
    assert "old" not in stale.read_text()
    assert stale.read_text().endswith("<!-- end -->\nafter\n")


# Names --------------------------------------------------------------------------------------------


def test_every_command_is_documented() -> None:
    assert missing(blocks.command_names(), page("cli")) == []


def test_every_error_code_is_documented_with_its_way_out() -> None:
    assert missing(blocks.error_codes(), page("errors")) == []
    assert sorted(blocks.error_codes() - words.ADVICE.keys()) == []


def test_every_frame_is_documented() -> None:
    assert missing(wire.frame_names(), page("frames")) == []


def test_every_route_is_documented() -> None:
    assert missing(wire.route_paths(), page("http")) == []
    assert wire.openapi_is_made()


def test_every_log_event_is_documented_with_its_meaning() -> None:
    assert missing(blocks.event_names(), page("events")) == []
    assert sorted(set(blocks.event_names()) - words.EVENTS.keys()) == []


def test_every_metric_is_documented() -> None:
    text = page("events")

    assert [one for one in blocks.metric_names() if one not in text] == []


def test_every_setting_is_documented() -> None:
    assert missing(blocks.setting_names(), page("configuration")) == []
    assert blocks.unexplained_settings() == []


def test_every_key_of_the_project_file_is_documented() -> None:
    text = (ROOT / "docs" / "guides" / "project-file.md").read_text("utf-8")

    keys = [*project_file.KEYS, *project_file.CACHE_KEYS, *declaring.KEYS]
    assert [key for key in keys if f"`{key}`" not in text and f"{{ {key} =" not in text] == []
    parsed = [
        project_file.parse_project_file(block)
        for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    ]
    assert parsed


def test_every_limit_is_documented() -> None:
    found = [one.name for one in source.constants(limits)]

    assert missing(found, page("limits")) == []


def test_every_event_of_a_task_is_documented() -> None:
    text = page("transitions")

    assert [kind.__name__ for kind in tasks.TRANSITIONS if f"**{kind.__name__}**" not in text] == []


def test_an_event_that_nobody_logs_is_not_explained() -> None:
    assert sorted(words.EVENTS.keys() - set(blocks.event_names())) == []


def test_an_error_that_nobody_raises_is_not_explained() -> None:
    assert sorted(words.ADVICE.keys() - blocks.error_codes()) == []


# Commands in text ---------------------------------------------------------------------------------


def written_commands() -> Iterator[tuple[str, str]]:
    """Yield page and the first words of every `agentcom` command that a page tells people."""
    for path in PAGES:
        if "decisions" in path.parts:
            continue
        text = path.read_text("utf-8")
        for match in re.finditer(r"(?:^\$ |^|`)agentcom ((?:[a-z][a-z-]* ?)+)", text, re.MULTILINE):
            yield name(path), f"agentcom {match[1].strip()}"


def test_every_command_in_the_text_exists() -> None:
    known = set(blocks.command_names())
    heads = {one.split()[1] for one in known}
    groups = {one.split()[1] for one in known if one.count(" ") == 2}

    strange = []
    for where, command in written_commands():
        head, *rest = command.split()[1:]
        path = f"agentcom {head} {rest[0]}" if head in groups and rest else f"agentcom {head}"
        if head not in heads or path not in known:
            strange.append(f"{where}: {command}")
    assert strange == []


def typed_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield page and words of every whole `agentcom` line in a block that people may copy."""
    for path in PAGES:
        if "decisions" in path.parts:
            continue
        for block in re.findall(r"```sh\n(.*?)```", path.read_text("utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                told = re.match(r"(?:\$ )?(?:[A-Z_]+=\S* |sudo )*agentcom (.*)", line.strip())
                if told is not None:
                    with contextlib.suppress(ValueError):
                        yield name(path), shlex.split(told[1], comments=True)


def command_of(words: list[str]) -> tuple[click.Command, list[str], click.Context]:
    found: click.Command = root
    context = click.Context(root, info_name="agentcom")
    rest = list(words)
    while isinstance(found, click.Group) and rest and not rest[0].startswith("-"):
        _, below, rest = found.resolve_command(context, rest)
        assert below is not None
        found, context = below, click.Context(below, info_name=below.name, parent=context)
    return found, rest, context


def test_every_option_in_the_text_exists() -> None:
    strange = []
    for where, typed in typed_lines():
        command, rest, context = command_of(typed)
        known = {opt for one in command.params for opt in (*one.opts, *one.secondary_opts)}
        known |= {"--context", "--version", *context.help_option_names}
        given = rest[: rest.index("--")] if "--" in rest else rest
        strange += [
            f"{where}: agentcom {' '.join(typed)}"
            for word in given
            if word.startswith("--") and word.partition("=")[0] not in known
        ]
    assert strange == []


SYMPTOM = re.compile(r"^### (.+?)\n(.*?)(?=^##|\Z)", re.DOTALL | re.MULTILINE)


def test_every_symptom_has_a_reason_and_a_command() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")

    found = SYMPTOM.findall(text)
    assert len(found) >= 25
    bare = [said for said, rest in found if "```sh\nagentcom " not in rest]
    assert bare == []
    assert [said for said, rest in found if not rest.partition("```")[0].strip()] == []


def test_every_code_that_the_symptoms_name_is_one() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    known = blocks.error_codes() | set(words.FAILURES) | {"no_hub", "usage"}

    named = re.findall(r"^### `(?!waiting|completed).*\((\w+)\)`", text, re.MULTILINE)
    assert named
    assert [one for one in named if one not in known] == []


def test_messages_in_symptoms_are_those_that_the_programs_write() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    written = "".join(path.read_text("utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
    joined = re.sub(r'"\s*\n\s*f?"', "", written)

    quoted = re.findall(r"^### `(?!waiting|completed)(.+?) \(\w+\)`", text, re.MULTILINE)
    pieces = [piece.strip(" .") for said in quoted for piece in said.split("...")]
    assert [piece for piece in pieces if piece and piece not in joined] == []


def test_every_page_has_its_place_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    said = re.findall(r"^ +- (\S+\.md)$", text, re.MULTILINE)

    assert re.findall(r"^\S{7}(?: .*)?$", text, re.MULTILINE) == []  # what a merge leaves
    assert sorted(said) == sorted(set(said))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in PAGES[1:]}
    listed_elsewhere = re.compile(r"decisions/\d|benchmarks/")  # by a page of their own
    assert sorted(one for one in pages - set(said) if not listed_elsewhere.match(one)) == []
    assert sorted(set(said) - pages) == []


# Links and manners --------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    plain = re.sub(r"[`*]", "", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_internal_links_lead_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text("utf-8"))

    broken = []
    for target in LINK.findall(text):
        place, _, part = target.partition("#")
        if "://" in target:
            continue
        there = (path.parent / place).resolve() if place else path
        heads = HEADING.findall(there.read_text("utf-8")) if part and there.exists() else []
        if not there.exists() or (part and part not in map(anchor, heads)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_names_no_folder_or_registry_of_ours(path: Path) -> None:
    text = path.read_text("utf-8")

    assert re.findall(r"(?<![\w.}$])/(?:root|work|Users/\w+|home/\w+)/", text) == []
    assert LEAVES_A_REGISTRY.findall(text) == []


def test_every_page_can_be_reached_from_the_first_one() -> None:
    reached = {ROOT / "docs" / "index.md"}
    waiting = list(reached)
    while waiting:
        at = waiting.pop()
        for target in LINK.findall(at.read_text("utf-8")):
            there = (at.parent / target.partition("#")[0]).resolve()
            if there.suffix == ".md" and there.exists() and there not in reached:
                reached.add(there)
                waiting.append(there)

    dated = ROOT / "docs" / "benchmarks"
    wanted = [path for path in PAGES[1:] if dated not in path.parents]
    assert [name(path) for path in wanted if path not in reached] == []


# Commands that run --------------------------------------------------------------------------------


class Step:
    """One command of a page, what it should print, and how it should end."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.lines: list[str] = []
        self.exit_code = 0

    def check(self, folder: Path, environment: dict[str, str]) -> Path:
        """Run it, compare, and return the folder that one is in afterwards."""
        first, *rest = shlex.split(self.command)
        if first == "cd":
            return folder / rest[0]
        done = subprocess.run(
            ["sh", "-c", self.command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        said = done.stdout + done.stderr
        assert done.returncode == self.exit_code, f"{self.command}: {said}"
        at = 0
        lines = said.splitlines()
        for wanted in self.lines:
            pattern = ".*".join(map(re.escape, wanted.split("...")))
            found = (n for n in range(at, len(lines)) if re.match(pattern, lines[n]))
            place = next(found, None) if wanted != "..." else at
            assert place is not None, f"{self.command}: no line like {wanted!r} in: {said}"
            at = place
        return folder


def steps(path: Path) -> list[Step]:
    found: list[Step] = []
    for block in RUNNABLE.findall(path.read_text("utf-8")):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line.removeprefix("$ ")))
            elif line.startswith("! exit "):
                found[-1].exit_code = int(line.removeprefix("! exit "))
            else:
                found[-1].lines.append(line)
    return found


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("path", [path for path in PAGES if steps(path)], ids=name)
def test_the_commands_of_a_page_do_what_it_says(path: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "AGENTCOM_HOME": str(tmp_path / "home"),
        "AGENTCOM_HUB_PORT": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
    }
    folder = tmp_path / "work"
    folder.mkdir()
    try:
        for step in steps(path):
            folder = step.check(folder, environment)
    finally:
        Step("agentcom down").check(tmp_path, environment)
