"""What this project is made of: a bill of materials, licences, known advisories. No network.

`python requirements/supply.py sbom` prints a CycloneDX document made of the lock, the same bytes
each time. `check` looks at the licence of each locked package, and at advisories: by pip-audit
where that is installed and reaches its database, else by the recorded list, and says by which.
`record` writes `licences.json` anew from what is installed; look at what it changed.
"""

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

HERE: Final = Path(__file__).parent
LICENCES: Final = HERE / "licences.json"
ADVISORIES: Final = HERE / "advisories.json"
SHIPPED: Final = HERE / "run.txt"
CHECKED: Final = ("run.txt", "build.txt", "dev.txt")
ALLOWED: Final = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0"),
        *("LicenseRef-any-OSI", "MPL-2.0"),
    }
)
"""Licences that ask for nothing which an MIT project cannot give; MPL-2.0 covers its own files."""
AUDIT_S: Final = 60.0
_LINE: Final = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAMESPACE: Final = uuid.UUID("5f0c5b52-6b53-5d4b-9d0e-6a2a7c1e9b10")
_CLASSIFIED: Final = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
_SAID: Final = {
    "any-OSI": "LicenseRef-any-OSI",
    "BSD 2-Clause License": "BSD-2-Clause",
    "3-Clause BSD": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
}


class Package(NamedTuple):
    """One line of a lock."""

    name: str
    version: str
    hashes: tuple[str, ...]
    """SHA-256 of each file that may be installed."""


def read_lock(path: Path) -> Sequence[Package]:
    """Return the packages of a lock, by name."""
    found: list[Package] = []
    for block in path.read_text("utf-8").replace("\\\n", " ").splitlines():
        line = _LINE.match(block)
        if line is not None:
            name = canonicalize_name(line["name"])
            found.append(Package(name, line["version"], tuple(sorted(_HASH.findall(block)))))
    return sorted(found)


def sbom(packages: Iterable[Package], licences: Mapping[str, str], *, version: str) -> str:
    """Return a CycloneDX 1.6 document: no time, no chance, no address of a download."""
    components = [_component(package, licences) for package in packages]
    root = f"pkg:pypi/agentcom@{version}"
    content = json.dumps([root, components], sort_keys=True)
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "agentcom",
                "version": version,
                "purl": root,
                "licenses": [{"license": {"id": "MIT"}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": root, "dependsOn": [one["bom-ref"] for one in components]}],
    }
    return json.dumps(document, indent=2) + "\n"


def _component(package: Package, licences: Mapping[str, str]) -> dict[str, Any]:
    purl = f"pkg:pypi/{package.name}@{package.version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "scope": "required",
        "licenses": [{"expression": licences[package.name]}],
        "hashes": [{"alg": "SHA-256", "content": one} for one in package.hashes],
    }


def unlicensed(packages: Iterable[Package], licences: Mapping[str, str]) -> Sequence[str]:
    """Return what is wrong with the licences of packages, in words."""
    found = []
    for package in packages:
        known = licences.get(package.name)
        if known is None:
            found.append(f"{package.name}: no licence is recorded; run `supply.py record`")
        elif not _fits(known):
            found.append(f"{package.name}: {known} is not among the licences that fit")
    return found


def _fits(expression: str) -> bool:
    either = [part.strip(" ()") for part in expression.split(" OR ")]
    return any(all(one in ALLOWED for one in part.split(" AND ")) for part in either)


def affected(packages: Iterable[Package], advisories: Sequence[Mapping[str, str]]) -> Sequence[str]:
    """Return the recorded advisories that are about one of the packages, in words."""
    return [
        f"{package.name} {package.version}: {one['id']} ({one['what']})"
        for package in packages
        for one in advisories
        if one["package"] == package.name
        and SpecifierSet(one["affected"], prereleases=True).contains(package.version)
    ]


def asked(lock: Path, program: str | None) -> Sequence[str] | None:
    """Return what pip-audit finds in a lock; None if it is not here, or reaches no database."""
    if program is None:
        return None
    command = [program, "--disable-pip", "--require-hashes", "-r", str(lock), "-f", "json"]
    try:
        done = subprocess.run(  # noqa: S603 - fixed argv
            [*command, "--progress-spinner", "off"],
            check=False,
            capture_output=True,
            timeout=AUDIT_S,
        )
        rows = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    if not rows or any("skip_reason" in row for row in rows):
        return None  # without its database it calls each package unknown, and is content
    return [f"{row['name']} {row['version']}: {one['id']}" for row in rows for one in row["vulns"]]


def licence_of(found: importlib.metadata.Distribution) -> str:
    """Return the licence that an installed package states, as an SPDX expression if it can be."""
    said = found.metadata
    expression = said.get("License-Expression")
    if expression:
        return expression
    classes = [
        one.rpartition(" :: ")[2]
        for one in said.get_all("Classifier") or ()
        if one.startswith("License :: ")
    ]
    named = [_CLASSIFIED[one] for one in classes if one in _CLASSIFIED]
    if named:
        return " OR ".join(sorted(named))
    text = (said.get("License") or "").strip().splitlines()
    first = text[0] if text else "unknown"
    return _SAID.get(first, first.removesuffix(" License"))


def record() -> int:
    """Write the licences of what is installed."""
    known = json.loads(LICENCES.read_text("utf-8")) if LICENCES.exists() else {}
    for package in locked():
        try:
            stated = licence_of(importlib.metadata.distribution(package.name))
        except importlib.metadata.PackageNotFoundError:
            continue
        if package.name not in known or stated != "unknown":
            known[package.name] = stated
    LICENCES.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", "utf-8")
    return 0


def locked() -> Sequence[Package]:
    """Return every package of the locks that are installed to build, test or run this project."""
    return sorted({package for name in CHECKED for package in read_lock(HERE / name)})


def check() -> int:
    """Look at licences and advisories; say by what."""
    licences = json.loads(LICENCES.read_text("utf-8"))
    recorded = json.loads(ADVISORIES.read_text("utf-8"))
    packages = locked()
    wrong = list(unlicensed(packages, licences))
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("pip-audit", path=places)
    found = asked(SHIPPED, program)
    if found is None:
        why = "pip-audit is not installed" if program is None else "pip-audit reached no database"
        say(f"advisories: {why}; the list recorded on {recorded['recorded']} knows no newer ones")
        found = affected(packages, recorded["advisories"])
    else:
        say("advisories: asked pip-audit's database")
    wrong += found
    for one in wrong:
        say(f"WRONG {one}")
    digest = hashlib.sha256("".join(p.name + p.version for p in packages).encode()).hexdigest()
    say(f"dependencies: {len(packages)} locked ({digest[:12]}), {len(wrong)} findings")
    return int(bool(wrong))


def version() -> str:
    """Return the version of this project."""
    text = (HERE.parent / "src" / "agentcom" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__(?:: [^=]+)? = "([^"]+)"', text, re.MULTILINE)
    assert found is not None
    return found[1]


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")


def main(words: Sequence[str]) -> int:
    """Do what is asked."""
    match list(words):
        case ["sbom"]:
            licences = json.loads(LICENCES.read_text("utf-8"))
            sys.stdout.write(sbom(read_lock(SHIPPED), licences, version=version()))
            return 0
        case ["check"]:
            return check()
        case ["record"]:
            return record()
    say(__doc__ or "")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
