"""What a computer offers, in words that tasks can ask for and with few values."""

import os
from pathlib import Path

import pytest

from agentcom.model.requirement import canonical_capabilities, parse_requirement, satisfies
from agentcom.sidecar import computer

GIB = 1 << 30


def program(folder: Path, name: str, text: str) -> Path:
    """Put a program on the path that says something."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer whose only programs are those in this folder, and the shell they need."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{tmp_path / 'nothing'}")
    return folder


def test_what_is_found_here_can_be_asked_for() -> None:
    offers = canonical_capabilities(computer.capabilities())

    for need in ("python>=3.8", "git>=2", "cpu>=1", "memory_gb>=1", f"arch={os.uname().machine}"):
        assert satisfies(offers, parse_requirement(need)), need
    assert {offer.name for offer in offers} <= computer.NAMES


def test_a_version_is_told_as_numbers_that_compare(programs: Path) -> None:
    program(programs, "go", "echo go version go1.23rc1 linux/amd64")
    program(programs, "node", "echo v20.1.0-nightly")
    program(programs, "ruby", "echo ruby is broken; exit 1")

    found = computer.capabilities()

    assert {"go=1.23", "node=20.1.0"} <= set(found)
    assert not [name for name in found if name.startswith(("python", "ruby"))]


def test_a_program_is_asked_once_and_again_when_it_has_changed(
    programs: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    php = program(programs, "php", f"echo x >> {asked}; echo PHP 8.2.1")
    computer.capabilities()
    assert "php=8.2.1" in computer.capabilities()
    assert asked.read_text() == "x\n"

    php.write_text(f"#!/bin/sh\necho x >> {asked}; echo PHP 8.3.10\n")

    assert "php=8.3.10" in computer.capabilities()
    assert asked.read_text() == "x\nx\n"


def test_a_docker_without_a_daemon_is_none(programs: Path) -> None:
    docker = program(programs, "docker", "echo cannot connect >&2; exit 1")
    assert "docker" not in "".join(computer.capabilities())

    docker.write_text('#!/bin/sh\ntest "$1" = version && echo 24.0.7\n')

    assert "docker=24.0.7" in computer.capabilities()


@pytest.mark.parametrize(
    ("free", "before", "step"),
    [
        (1.9, 0, 0),
        (2.4, 0, 0),
        (2.5, 0, 2),
        (2.1, 2, 2),  # told once, it stays until it is not true any more
        (1.9, 2, 0),
        (12.4, 2, 2),
        (12.5, 2, 10),
        (10.1, 10, 10),
        (5_000, 0, 1_000),
    ],
)
def test_a_disk_is_told_in_steps_that_do_not_flap(free: float, before: int, step: int) -> None:
    assert computer.disk_step(int(free * GIB), before) == step
