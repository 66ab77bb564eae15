from pathlib import Path

import pytest

from tests.tools import install_clis


def fake(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_the_newest_version_that_runs_on_this_node_is_chosen() -> None:
    chosen = [install_clis.pin_for("claude", major).version for major in (16, 20, 24)]

    assert chosen == ["", "2.1.197", "2.1.330"]


def test_an_unreachable_registry_is_a_loud_notice_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(tmp_path / "bin", "node", "echo v20.1.0")
    fake(tmp_path / "bin", "npm", "echo 'npm error network' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(install_clis, "CLIS", tmp_path / "clis")
    monkeypatch.setattr("sys.argv", ["install_clis.py", "codex"])

    assert install_clis.main() == 0

    said = capsys.readouterr().out
    assert "NOT INSTALLED: codex" in said
    assert "npm error network" in said
    assert not (tmp_path / "clis" / "codex").exists()


def test_a_version_that_is_not_the_pinned_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = 'mkdir -p "$6/node_modules/.bin"; p="$6/node_modules/.bin/codex"'
    fake(tmp_path / "bin", "node", "echo v20.1.0")
    fake(tmp_path / "bin", "npm", f"{program}; printf '#!/bin/sh\\necho 0.0.1' > $p; chmod +x $p")
    monkeypatch.setattr(install_clis, "CLIS", tmp_path / "clis")

    install_clis.install(install_clis.pin_for("codex", 20), tmp_path / "bin")

    assert "expected version 0.169.0" in capsys.readouterr().out
    assert not (tmp_path / "clis" / "codex").exists()


def test_a_program_that_needs_a_newer_node_gets_the_wheel_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path / "old", "node", "echo v20.1.0")
    fake(tmp_path / "new", "node", "echo v24.1.0")
    monkeypatch.setattr(install_clis, "wheel_node", lambda: tmp_path / "new")

    chosen = [
        install_clis.node_for(name, tmp_path / "old").name for name in ("claude", "conformance")
    ]

    assert chosen == ["old", "new"]


def test_npm_is_started_from_its_library_where_that_is_beside_node(tmp_path: Path) -> None:
    program = tmp_path / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    before = install_clis.npm_of(tmp_path / "bin")
    program.parent.mkdir(parents=True)
    program.touch()

    assert before == ["npm"]
    assert install_clis.npm_of(tmp_path / "bin") == [str(tmp_path / "bin" / "node"), str(program)]


def test_what_pip_installs_is_pinned_to_one_version_and_a_python() -> None:
    pin = install_clis.python_pin("mini")

    assert pin is not None
    assert (pin.version, pin.python_min, pin.beside) == ("2.4.6", 11, ("mcp",))
    assert install_clis.python_pin("codex") is None
    assert install_clis.find_python(11) is not None
    assert install_clis.find_python(install_clis.PYTHON_MINORS) is None


def test_without_a_name_only_what_every_run_wants_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted: list[str] = []
    monkeypatch.setattr(install_clis, "install_npm", wanted.extend)
    monkeypatch.setattr(install_clis, "install_python", lambda pin: wanted.append(pin.name))
    monkeypatch.setattr("sys.argv", ["install_clis.py"])

    install_clis.main()
    usual = list(wanted)
    monkeypatch.setattr("sys.argv", ["install_clis.py", "all"])
    install_clis.main()

    assert usual == ["codex", "claude", "conformance"]
    assert {"pi", "gemini", "openclaw", "vibe", "mini"} < set(wanted)


def test_a_program_that_says_no_version_is_asked_of_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_clis, "CLIS", tmp_path)
    fake(tmp_path / "mini", "x", "")
    fake(tmp_path / "mini" / "bin", "mini", "echo 'no such option' >&2; exit 2")
    (tmp_path / "mini" / "venv").mkdir()
    fake(tmp_path / "mini" / "venv" / "bin", "python", "echo 2.4.6")
    pin = install_clis.python_pin("mini")
    assert pin is not None

    assert install_clis.installed_version(pin) == "2.4.6"
