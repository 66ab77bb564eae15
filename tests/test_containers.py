"""The container's files: parsed as an engine would, since there is none here."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from agentcom.cli.root import root
from agentcom.cli.run import hub_health, hub_run, sidecar_run

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "ops" / "docker"


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], " ".join(line.split()[1:])) for line in lines]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(at for at, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


def one(name: str) -> str:
    (found,) = [words for key, words in last_stage() if key == name]
    return found


def parses(command: click.Command, words: list[str]) -> click.Context:
    return command.make_context("x", words, parent=click.Context(root, info_name="agentcom"))


def test_the_program_is_the_first_process_and_belongs_to_nobody() -> None:
    assert json.loads(one("ENTRYPOINT")) == ["agentcom"]
    assert json.loads(one("CMD")) == ["hub", "run"]
    assert one("USER") == "10001:10001"
    assert one("STOPSIGNAL") == "SIGTERM"
    assert json.loads(one("VOLUME")) == ["/data", "/backups"]
    assert parses(hub_run, []).params["home"] is None


def test_its_health_is_asked_by_the_program() -> None:
    words = json.loads(one("HEALTHCHECK").partition(" CMD ")[2])

    assert words[:3] == ["agentcom", "hub", "health"]
    assert parses(hub_health, words[3:]).params["home"] is None


def test_everything_is_installed_with_hashes_and_nothing_of_the_build_is_kept() -> None:
    installs = [words for name, words in instructions() if name == "RUN" and " install -" in words]

    assert all(
        "--require-hashes" in words or "--no-deps" in words or "apt-get" in words
        for words in installs
    )
    copied = [words for name, words in last_stage() if name == "COPY"]
    assert copied == ["--from=build /opt/agentcom /opt/agentcom"]
    assert not any(name == "ADD" for name, _ in instructions())


def test_what_is_copied_is_there_and_not_ignored() -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for name, words in instructions():
        if name == "COPY" and not words.startswith("--from"):
            for source in words.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source.split('/')[0]}" in allowed, source


def test_the_base_is_a_python_that_the_project_knows() -> None:
    said = dict(
        words.split("=", 1) for name, words in instructions() if name == "ARG" and "=" in words
    )
    version = said["PYTHON"].split("-")[0]

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


@pytest.fixture(scope="module")
def compose() -> Any:
    yaml = pytest.importorskip("yaml", reason="no YAML reader is installed")
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


def test_every_service_is_closed_in(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert all(
            port.startswith(("127.0.0.1:", "${AGENTCOM_PUBLISH:-127.0.0.1"))
            for port in service.get("ports", [])
        ), name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).exists(), volume


def test_the_hub_has_longer_to_stop_than_it_takes(compose: Any) -> None:
    assert int(compose["services"]["hub"]["stop_grace_period"].rstrip("s")) > 10
    side = compose["services"]["sidecar"]
    drain_s = int(side["environment"]["AGENTCOM_SIDECAR_DRAIN_MS"]) / 1_000
    assert int(side["stop_grace_period"].rstrip("s")) > drain_s


def test_a_machine_joins_by_the_same_program(compose: Any) -> None:
    words = [str(word) for word in compose["services"]["sidecar"]["command"]]

    assert words[:2] == ["sidecar", "run"]
    given = parses(sidecar_run, words[2:]).params
    assert given["agents"] == ("shell=command",)
    assert "AGENTCOM_JOIN" in given["address"]
