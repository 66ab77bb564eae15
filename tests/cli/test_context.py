import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from agentcom.cli import context
from agentcom.cli.context import Context
from agentcom.cli.errors import CommandFailed, Exit
from tests.cli.terminal import Here

OTHER = Context(url="https://other.example", token="acm_usr_o", user="bob")
KNOWN = Context(url="https://hub.example:7420", token="acm_usr_x", fingerprint="ab" * 32)


def test_what_was_saved_is_loaded(home: Path) -> None:
    context.save(KNOWN)

    assert context.load() == KNOWN


def test_the_token_is_readable_for_its_owner_alone(home: Path) -> None:
    context.save(KNOWN)

    assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o600}


def test_a_token_that_others_may_read_is_refused(home: Path) -> None:
    context.save(KNOWN)
    (home / "context.json").chmod(0o644)

    with pytest.raises(CommandFailed, match="others may read"):
        context.load()


def test_the_environment_comes_before_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context.save(KNOWN)
    monkeypatch.setenv("AGENTCOM_HUB", "http://127.0.0.1:1")
    monkeypatch.setenv("AGENTCOM_TOKEN", "other")

    assert context.load() == Context(url="http://127.0.0.1:1", token="other")


def test_each_hub_keeps_its_own_token(home: Path) -> None:
    context.save(KNOWN)
    context.save(OTHER)

    assert context.load() == OTHER
    assert context.find(KNOWN.url + "/") == KNOWN
    assert context.use(KNOWN.url) == KNOWN
    assert context.load() == KNOWN


def test_a_token_goes_to_no_other_hub(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context.save(KNOWN)
    monkeypatch.setenv("AGENTCOM_HUB", OTHER.url)

    with pytest.raises(CommandFailed, match="there is no token for"):
        context.load()


def test_a_hub_of_this_computer_is_known_at_its_new_address(home: Path) -> None:
    mine = Context(url="http://127.0.0.1:1", token="acm_usr_m", home="/h/hub")
    context.save(mine)
    context.save(OTHER)

    moved = replace(mine, url="http://127.0.0.1:2")
    context.save(moved, current=False)

    assert context.known() == [OTHER, moved]


def test_another_hub_at_an_address_does_not_drop_what_was_known_there(home: Path) -> None:
    mine = Context(url="http://127.0.0.1:1", token="acm_usr_m", home="/h/hub")
    new = Context(url="http://127.0.0.1:1", token="acm_usr_n", home="/h/other")
    context.save(mine)
    context.save(new)

    assert context.load() == new
    assert context.of_hub(Path("/h/hub")) == mine


def test_what_a_version_before_kept_is_found(home: Path) -> None:
    context.write_private(home / "context.json", '{"url": "http://127.0.0.1:1"}')
    context.write_private(home / "context.token", "acm_usr_old\n")

    assert context.load() == Context(url="http://127.0.0.1:1", token="acm_usr_old")
    context.save(OTHER)
    assert [it.token for it in context.known()] == [OTHER.token, "acm_usr_old"]
    assert not (home / "context.token").exists()


def test_hubs_are_listed_without_their_tokens(agentcom: Here) -> None:
    context.save(KNOWN)
    context.save(OTHER)

    said = agentcom("context", "ls")

    assert [line[0] for line in said.lines] == [OTHER.url, KNOWN.url]
    assert OTHER.token not in said.out


def test_the_current_hub_is_changed_and_forgotten(agentcom: Here) -> None:
    context.save(KNOWN)
    context.save(OTHER)

    assert agentcom("context", "use", KNOWN.url).code == 0
    assert context.load() == KNOWN
    assert agentcom("context", "rm", KNOWN.url, "--yes").code == 0
    assert context.known() == [OTHER]
    assert agentcom("context", "use", KNOWN.url).code == Exit.MISSING


def test_a_token_that_is_kept_is_only_replaced_on_purpose(
    agentcom: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.save(KNOWN)
    monkeypatch.setattr("sys.stdin", io.StringIO("acm_usr_new\n"))

    assert agentcom("context", "add", KNOWN.url).code == Exit.STALE
    assert context.load() == KNOWN
    assert agentcom("context", "add", KNOWN.url, "--replace").code == 0
    assert context.load() == replace(KNOWN, token="acm_usr_new")


def test_without_a_hub_the_answer_is_up(agentcom: Here) -> None:
    said = agentcom("task", "ls")

    assert (said.code, said.err) == (
        Exit.UNREACHABLE,
        "error: no hub is known here (no_hub)\ntry: agentcom up\n",
    )


def test_a_hub_that_is_not_there_is_unreachable(agentcom: Here) -> None:
    context.save(Context(url="http://127.0.0.1:1", token="acm_usr_x"))

    said = agentcom("task", "ls")

    assert said.code == Exit.UNREACHABLE
    assert said.err.startswith("error: cannot reach the hub at http://127.0.0.1:1")


def test_last_names_nothing_before_the_first_submit(agentcom: Here) -> None:
    context.save(KNOWN)

    assert agentcom("task", "why", "@last").code == Exit.MISSING


def test_every_folder_that_is_made_is_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCOM_HOME", str(tmp_path / "a" / "b"))

    context.remember_task("01")

    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o700, 0o700]


@pytest.mark.parametrize("data", [b"{bad", b"\xff", b'{"hubs": 5}', b'{"hubs": [{"x": 1}]}'])
def test_a_damaged_file_is_named_with_the_way_out(agentcom: Here, home: Path, data: bytes) -> None:
    context.write_private(home / "context.json", "")
    (home / "context.json").write_bytes(data)

    refused = agentcom("task", "ls")

    assert refused.code == 2
    assert "context.json is damaged" in refused.err
    assert "try: mv" in refused.err


def test_a_token_that_cannot_be_one_is_not_shown(
    agentcom: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCOM_HUB", "http://127.0.0.1:9")
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_usr_secret\nacm")

    refused = agentcom("task", "ls")

    assert refused.code == 4
    assert "secret" not in refused.err


def test_the_agent_of_an_attempt_speaks_as_itself(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.save(KNOWN)
    monkeypatch.setenv("AGENTCOM_MCP_URL", "http://127.0.0.1:4711/mcp")
    monkeypatch.setenv("AGENTCOM_MCP_TOKEN", "of-the-attempt")

    assert context.load() == Context(url="http://127.0.0.1:4711", token="of-the-attempt")

    kept = home / "hub.token"
    kept.write_text("from-the-file")
    kept.chmod(0o600)
    monkeypatch.delenv("AGENTCOM_MCP_TOKEN")
    monkeypatch.setenv("AGENTCOM_MCP_FILE", str(kept))
    assert context.load() == Context(url="http://127.0.0.1:4711", token="from-the-file")

    monkeypatch.setenv("AGENTCOM_HUB", KNOWN.url)
    assert context.load() == KNOWN


def test_a_hub_is_named_by_its_host_until_somebody_says_otherwise(agentcom: Here) -> None:
    context.save(KNOWN)
    context.save(OTHER)

    assert agentcom("context", "rename", "hub.example:7420", "prod").code == 0

    assert context.names() == {OTHER.url: "other.example", KNOWN.url: "prod"}
    assert context.find("prod") == context.find(KNOWN.url) == KNOWN
    assert agentcom("context", "rename", OTHER.url, "prod").code == Exit.USAGE
    assert agentcom("context", "rename", OTHER.url, "a/b").code == Exit.USAGE


def test_a_name_and_a_folder_s_choice_follow_a_hub_that_moves(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Context(url="http://127.0.0.1:1", token="acm_usr_m", home="/h/hub")
    context.save(mine)
    context.rename(mine.url, "here")
    context.use_in(tmp_path, "here")
    context.save(OTHER)

    moved = replace(mine, url="http://127.0.0.1:2")
    context.save(moved, current=False)

    assert context.find("here") == moved
    assert context.load() == moved


def test_who_chooses_is_always_clear(
    agentcom: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work" / "deep"
    folder.mkdir(parents=True)
    context.save(KNOWN)
    context.save(OTHER)
    context.rename(KNOWN.url, "prod")

    def shown(*words: str) -> tuple[str, str]:
        said = dict(line for line in agentcom(*words).lines if len(line) == 2)
        return said["hub"], said["because"]

    monkeypatch.chdir(folder)
    assert shown("context", "show") == (OTHER.url, "current")
    monkeypatch.chdir(folder.parent)
    assert agentcom("context", "use", "prod", "--here").code == 0
    monkeypatch.chdir(folder)
    assert shown("context", "show") == (KNOWN.url, f"chosen for {folder.parent}")
    monkeypatch.setenv("AGENTCOM_CONTEXT", "other.example")
    assert shown("context", "show") == (OTHER.url, "AGENTCOM_CONTEXT")
    assert shown("context", "show", "--context", "prod") == (KNOWN.url, "--context")
    assert shown("--context=prod", "context", "show") == (KNOWN.url, "--context")
    monkeypatch.setenv("AGENTCOM_HUB", KNOWN.url)
    assert agentcom("context", "show").code == Exit.USAGE
    monkeypatch.delenv("AGENTCOM_CONTEXT")
    assert shown("context", "show") == (KNOWN.url, "AGENTCOM_HUB")
    monkeypatch.delenv("AGENTCOM_HUB")
    monkeypatch.chdir(folder.parent)
    assert agentcom("context", "use", "--here", "--off").code == 0
    assert shown("context", "show") == (OTHER.url, "current")


def test_a_context_s_own_token_is_used_and_never_one_of_the_environment(
    agentcom: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.save(KNOWN)
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_usr_elsewhere")

    said = agentcom("context", "show", "--context", "hub.example:7420")

    assert "kept here" in said.out
    assert KNOWN.token not in said.out


def test_an_unknown_context_is_refused_before_anything_is_sent(agentcom: Here) -> None:
    context.save(KNOWN)

    said = agentcom("task", "ls", "--context", "nowhere")

    assert said.code == Exit.MISSING
    assert "try: agentcom context ls" in said.err


@pytest.mark.parametrize("words", ["task ls --context", "--context= task ls", "--context"])
def test_a_context_without_a_name_is_refused(agentcom: Here, words: str) -> None:
    context.save(KNOWN)

    said = agentcom(*words.split())

    assert said.code == Exit.USAGE
    assert "--context needs the name of a hub" in said.err


def test_what_stands_behind_two_dashes_is_not_ours(agentcom: Here) -> None:
    context.save(KNOWN)

    said = agentcom("submit", "--command", "--no-repo", "--bogus", "--", "x", "--context", "y")

    assert "--bogus" in said.err


def test_a_version_before_reads_what_this_one_wrote(home: Path) -> None:
    context.save(KNOWN)
    context.rename(KNOWN.url, "prod")

    written = json.loads((home / "context.json").read_text())

    assert [Context(**entry) for entry in written["hubs"]] == [KNOWN]
