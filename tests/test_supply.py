"""What this project is made of: the bill of materials, licences, advisories."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("supply", ROOT / "requirements" / "supply.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


supply = load()
LICENCES = json.loads(supply.LICENCES.read_text("utf-8"))


def made() -> str:
    return str(supply.sbom(supply.read_lock(supply.SHIPPED), LICENCES, version="1.2.3"))


def test_the_bill_of_materials_names_every_locked_package_with_its_hashes() -> None:
    lock = supply.SHIPPED.read_text("utf-8")
    document = json.loads(made())

    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    named = {f"{one['name']}=={one['version']}" for one in document["components"]}
    assert named == set(re.findall(r"^[^\s#]+==[^\s\\]+", lock, re.MULTILINE))
    hashes = [one["content"] for part in document["components"] for one in part["hashes"]]
    assert sorted(hashes) == sorted(re.findall(r"sha256:([0-9a-f]{64})", lock))
    assert document["dependencies"][0]["dependsOn"] == [
        one["bom-ref"] for one in document["components"]
    ]


def test_it_is_the_same_each_time_and_another_for_another_version() -> None:
    assert made() == made()
    other = supply.sbom(supply.read_lock(supply.SHIPPED), LICENCES, version="1.2.4")
    assert json.loads(other)["serialNumber"] != json.loads(made())["serialNumber"]


def test_it_names_no_time_and_no_address_of_a_download() -> None:
    text = made()

    assert re.findall(r"https?://(?!cyclonedx\.org/schema)", text) == []
    assert "timestamp" not in text


def test_every_licence_fits() -> None:
    assert supply.unlicensed(supply.locked(), LICENCES) == []


@pytest.mark.parametrize(
    ("licence", "fits"),
    [("MIT", True), ("GPL-3.0-only", False), ("MIT OR GPL-3.0-only", True)],
)
def test_a_licence_that_asks_for_more_is_found(licence: str, fits: bool) -> None:
    package = supply.Package("x", "1", ())

    assert (supply.unlicensed([package], {"x": licence}) == []) is fits
    assert (supply.unlicensed([package], {"x": f"{licence} AND GPL-2.0-only"}) == []) is (
        " OR " in licence
    )


def test_a_package_without_a_recorded_licence_is_found() -> None:
    assert "no licence" in supply.unlicensed([supply.Package("new", "1", ())], {})[0]


def test_a_version_that_an_advisory_is_about_is_found() -> None:
    recorded = json.loads(supply.ADVISORIES.read_text("utf-8"))["advisories"]
    old = supply.Package("starlette", "0.46.0", ())

    found = supply.affected([old], recorded)

    assert any("CVE-2025-54121" in one for one in found)
    assert supply.affected(supply.locked(), recorded) == []


def test_an_audit_that_reached_no_database_counts_as_none(tmp_path: Path) -> None:
    program = tmp_path / "pip-audit"
    skipped = {"dependencies": [{"name": "a", "skip_reason": "not found"}]}
    found = {"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1"}]}]}

    for text, wanted in [
        (json.dumps(skipped), None),
        ("no JSON", None),
        (json.dumps(found), ["a 1: X-1"]),
    ]:
        program.write_text(f"#!/bin/sh\ncat <<'EOF'\n{text}\nEOF\n")
        program.chmod(0o755)
        assert supply.asked(supply.SHIPPED, str(program)) == wanted
    assert supply.asked(supply.SHIPPED, None) is None
