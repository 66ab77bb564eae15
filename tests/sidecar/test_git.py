"""Tests of agentcom.sidecar.git and of the secret scanner."""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.sidecar import git, secrets_scan
from agentcom.testing.waiting import PATIENCE_S, until


def alias(folder: Path, script: str) -> dict[str, str]:
    """Return an environment in which `git x` is a program of ours."""
    program = folder / "git-x"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


async def test_a_command_returns_what_it_printed(tmp_path: Path) -> None:
    done = await git.run(("hash-object", "--stdin"), tmp_path, input=b"x\n")

    assert done.text == "587be6b4c3f93f93c489c0111bba5596147a26cb"


async def test_a_failure_carries_gits_own_words(tmp_path: Path) -> None:
    with pytest.raises(git.GitFailed) as failed:
        await git.run(("rev-parse", "HEAD"), tmp_path)

    assert failed.value.returncode == 128
    assert "not a git repository" in failed.value.message
    assert (await git.run(("rev-parse", "HEAD"), tmp_path, check=False)).returncode == 128


async def test_a_missing_folder_is_a_failure_of_git(tmp_path: Path) -> None:
    with pytest.raises(git.GitFailed, match="missing"):
        await git.run(("status",), tmp_path / "nowhere")


async def test_credentials_never_reach_a_message(tmp_path: Path) -> None:
    env = alias(tmp_path, "echo 'fatal: https://me:s3cret@host/x and ssh://t0ken@h' >&2; exit 1")

    with pytest.raises(git.GitFailed) as failed:
        await git.run(("x",), tmp_path, env=env)

    assert "s3cret" not in str(failed.value)
    assert "t0ken" not in str(failed.value)
    assert "https://***@host/x" in failed.value.message


async def test_a_time_out_kills_the_whole_tree(tmp_path: Path) -> None:
    env = alias(tmp_path, f"sleep 600 & echo $! > {tmp_path}/pid; wait")

    with pytest.raises(git.GitFailed, match="did not end: stopped after"):
        await git.run(("x",), tmp_path, env=env, timeout_s=0.5)

    pid = int((tmp_path / "pid").read_text())
    await until(lambda: gone(pid))


async def test_a_cancelled_command_is_killed(tmp_path: Path) -> None:
    env = alias(
        tmp_path, f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; sleep 600"
    )
    running = asyncio.create_task(git.run(("x",), tmp_path, env=env))
    await until((tmp_path / "pid").exists)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await until(lambda: gone(int((tmp_path / "pid").read_text())))


async def test_a_helper_that_stays_behind_does_not_hold_us(tmp_path: Path) -> None:
    env = alias(tmp_path, f"setsid sleep 600 & echo $! > {tmp_path}/pid; echo done")

    async with asyncio.timeout(PATIENCE_S):
        done = await git.run(("x",), tmp_path, env=env)

    assert done.text == "done"
    os.kill(int((tmp_path / "pid").read_text()), 9)


async def test_too_much_output_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "OUTPUT_BYTES_MAX", 1_000)
    env = alias(tmp_path, "head -c 300000 /dev/zero")

    with pytest.raises(git.GitFailed, match="printed 300000 bytes"):
        await git.run(("x",), tmp_path, env=env)


async def test_git_sees_no_foreign_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("AGENTCOM_TOKEN", "secret")
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -i key")
    env = alias(tmp_path, "env")

    local = (await git.run(("x",), tmp_path, env=env)).text.splitlines()
    remote = (await git.run(("x",), tmp_path, env=env, remote=True)).text.splitlines()

    assert "GIT_CONFIG_GLOBAL=/dev/null" in local
    assert "GIT_CONFIG_GLOBAL=/dev/null" not in remote
    for seen in (local, remote):
        assert "GIT_TERMINAL_PROMPT=0" in seen
        assert "GIT_SSH_COMMAND=ssh -i key" in seen
        assert not [
            one for one in seen if one.startswith(("GIT_DIR=", "AGENTCOM_", "GIT_CONFIG_C"))
        ]


@pytest.mark.parametrize("url", ["ext::touch proof", "http://127.0.0.1:9/x", "git://127.0.0.1:9/x"])
async def test_other_transports_are_refused_by_git_itself(tmp_path: Path, url: str) -> None:
    with pytest.raises(git.GitFailed, match="not allowed"):
        await git.run(("ls-remote", "--", url), tmp_path, remote=True)

    assert not (tmp_path / "proof").exists()


# Joined here, so that no file of this repository looks like a secret.
@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("private key", "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE"),
        ("AgentCom token", "acm_mch_" + "a1B2c3D4_" + "x" * 49),
        ("GitHub token", "ghp_" + "a1B2" * 9),
        ("GitLab token", "glpat-" + "a1B2" * 5),
        ("AWS key", "AKIA" + "ABCDEFGH234567AB"),
        ("Anthropic key", "sk-ant-" + "a1B2" * 8),
        ("OpenAI key", "sk-proj-" + "a1B2" * 12),
        ("Google key", "AIza" + "a1B2c" * 7),
        ("JSON web token", "eyJ" + "a" * 12 + ".eyJ" + "b" * 12 + "." + "c" * 24),
        ("address with password", "postgres://me:" + "correcthorse@db/x"),
    ],
)
def test_a_secret_is_found_and_not_repeated(kind: str, secret: str) -> None:
    found = secrets_scan.scan("a.txt", f"one\ntwo = {secret}\n".encode())

    assert [str(one) for one in found] == [f"a.txt:2: {kind}"]


@pytest.mark.parametrize(
    "text",
    [
        "task-sk-learn skip-this-and-that",
        "https://example.com/a:b@c",
        "postgres://user:${PASSWORD}@db",
        "ghp_short",
        "-----BEGIN " + "PUBLIC KEY-----",
        "ssh://git@example.com/x",
    ],
)
def test_what_only_resembles_a_secret_passes(text: str) -> None:
    assert secrets_scan.scan("a.txt", text.encode()) == []


@given(st.binary(max_size=2_000))
def test_any_bytes_can_be_scanned(content: bytes) -> None:
    secrets_scan.scan("a", content)


def test_a_flood_of_findings_is_bounded() -> None:
    content = (("ghp_" + "a1B2" * 9 + "\n") * 1_000).encode()

    assert len(secrets_scan.scan("a", content)) == secrets_scan.FINDINGS_MAX


async def test_the_lock_of_a_git_that_was_killed_does_not_block_for_ever(tmp_path: Path) -> None:
    await git.run(["init", "--bare", "."], tmp_path)
    blob = await git.run(["hash-object", "-w", "--stdin"], tmp_path, input=b"x")
    tree = await git.run(["mktree"], tmp_path, input=b"100644 blob %s\tf\n" % blob.out.strip())
    commit = (await git.run(["commit-tree", "-m", "m", tree.text], tmp_path)).text
    lock = tmp_path / "refs/heads/main.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    os.utime(lock, (0, 0))

    await git.run(["update-ref", "refs/heads/main", commit], tmp_path)

    assert (await git.run(["rev-parse", "refs/heads/main"], tmp_path)).text == commit


def old_lock(place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    os.utime(place, (0, 0))
    return place


@pytest.mark.parametrize("remote", [True, False])
@pytest.mark.parametrize("prefix", ["", "remote: ", "fatal: x\nremote: "])
async def test_no_message_makes_us_delete_a_file_of_somebody_else(
    tmp_path: Path, prefix: str, *, remote: bool
) -> None:
    precious = old_lock(tmp_path / "project/poetry.lock")
    (tmp_path / "repo").mkdir()
    text = prefix.replace("\n", "\\n")
    env = alias(
        tmp_path,
        f"echo x >> {tmp_path}/runs\n"
        f"printf \"{text}Unable to create '{precious}': File exists\\n\" >&2; exit 1",
    )

    done = await git.run(("x",), tmp_path / "repo", env=env, check=False, remote=remote)

    assert precious.exists()
    assert done.returncode == 1
    assert (tmp_path / "runs").read_text() == "x\n"


@pytest.mark.parametrize("path", ["refs/heads/main.lock", "../repo/index.lock"])
async def test_what_a_remote_says_unlocks_nothing_of_ours(tmp_path: Path, path: str) -> None:
    (tmp_path / "repo").mkdir()
    lock = old_lock(tmp_path / "repo" / path)
    env = alias(tmp_path, f"echo \"Unable to create '{lock}': File exists\" >&2; exit 1")

    await git.run(("x",), tmp_path / "repo", env=env, check=False, remote=True)

    assert lock.exists()


async def test_a_path_that_leads_out_of_the_repository_is_not_unlocked(tmp_path: Path) -> None:
    precious = old_lock(tmp_path / "project/poetry.lock")
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo/link").symlink_to(tmp_path / "project")
    for way in ("../project", "link"):
        lock = tmp_path / "repo" / way / "poetry.lock"
        env = alias(tmp_path, f"echo \"Unable to create '{lock}': File exists\" >&2; exit 1")
        await git.run(("x",), tmp_path / "repo", env=env, check=False)

    assert precious.exists()


async def test_the_lock_of_a_sidecars_own_index_is_ours(tmp_path: Path) -> None:
    lock = old_lock(tmp_path / "state/index.lock")
    (tmp_path / "repo").mkdir()
    env = alias(
        tmp_path,
        f"test ! -e {lock} && exit 0; echo \"Unable to create '{lock}': File exists\" >&2; exit 1",
    )
    env |= {"GIT_DIR": str(tmp_path / "repo"), "GIT_INDEX_FILE": str(tmp_path / "state/index")}

    assert (await git.run(("x",), tmp_path, env=env, check=False)).returncode == 0


@pytest.mark.parametrize(
    ("detail", "away", "denied"),
    [
        ("fatal: unable to access 'https://forge/x/': Could not resolve host: forge", True, False),
        ("ssh: connect to host forge port 22: Connection refused", True, False),
        (
            "fatal: unable to access 'https://forge/x/': The requested URL returned error: 503",
            True,
            False,
        ),
        ("fatal: the remote end hung up unexpectedly", True, False),
        ("git@forge: Permission denied (publickey).\nthe remote end hung up", False, True),
        (
            "fatal: unable to access 'https://forge/x/': The requested URL returned error: 403",
            False,
            True,
        ),
        ("remote: Repository not found.", False, True),
        ("fatal: '/mnt/x.git' does not appear to be a git repository", False, False),
        ("fatal: couldn't find remote ref nope", False, False),
    ],
)
def test_an_origin_that_is_away_is_told_from_one_that_refuses(
    detail: str, away: bool, denied: bool
) -> None:
    failure = git.GitFailed("fetch", 128, detail)

    assert (failure.away, failure.denied) == (away, denied)


def test_an_error_tells_what_git_said_in_one_line_without_its_advice() -> None:
    said = (
        "! [remote rejected]\nremote: error: refusing to update        \nremote: \nhint: do this\n"
    )

    assert str(git.GitFailed("push", 1, said)) == (
        "git push failed (1): ! [remote rejected] refusing to update"
    )
