"""What `agentcom` says where its own files do not fit together."""

import sys

import pytest

from agentcom.cli import main


@pytest.mark.parametrize("missing", ["agentcom.cli.root", "agentcom.cli.run"])
def test_files_that_pip_is_exchanging_are_no_traceback(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(sys, "argv", ["agentcom", "status"])

    with pytest.raises(SystemExit) as ended:
        main.main()

    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert said[0].startswith("error: agentcom's own files do not fit together: ")
    assert missing in said[0]
    assert said[1].startswith("try: the same again in some seconds")
