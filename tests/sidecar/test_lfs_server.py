"""Repositories whose files in Git LFS are at a server of its own, as at a forge."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcom.sidecar import git as git_module
from agentcom.sidecar import repositories, workspace
from agentcom.sidecar.repositories import Repositories
from tests.sidecar.git_origin import Origin, prepare
from tests.sidecar.lfs_server import LOGIN, LfsServer, serving

pytestmark = pytest.mark.skipif(
    shutil.which("git-lfs") is None, reason="git-lfs IS NOT INSTALLED: apt-get install git-lfs"
)
PICTURE = b"a picture of a cat\n"
OID = hashlib.sha256(PICTURE).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize {len(PICTURE)}\n"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LfsServer]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(repositories, "RETRY_S", 0.0)
    with serving(tmp_path / "tls") as made:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(made.trusted))
        made.files[OID] = PICTURE
        yield made


@pytest.fixture
def origin(tmp_path: Path, server: LfsServer) -> Origin:
    made = Origin(tmp_path / "forge")
    attributes = "*.psd filter=lfs diff=lfs merge=lfs -text\n"
    files = {".gitattributes": attributes, ".lfsconfig": f"[lfs]\n\turl = {server.url}\n"}
    made.push({**files, "cat.psd": POINTER})
    return made


@pytest.fixture
def fleet(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "machine")


async def test_files_come_from_the_server_and_go_there(
    fleet: Repositories, origin: Origin, server: LfsServer
) -> None:
    worktree = await prepare(fleet, origin)
    found = (worktree.path / "cat.psd").read_bytes()
    (worktree.path / "dog.psd").write_text("a picture of a dog\n")

    saved = await workspace.finish(worktree, "work")
    await workspace.push_branch(worktree, "agent/ada/t1", saved.commit)

    assert found == PICTURE
    assert set(server.files.values()) == {PICTURE, b"a picture of a dog\n"}
    assert origin.show(saved.commit, "dog.psd").startswith("version https://git-lfs")


@pytest.mark.parametrize("fault", ["lies", "breaks"])
async def test_a_file_that_is_not_what_its_name_says_is_never_used(
    fleet: Repositories, origin: Origin, server: LfsServer, tmp_path: Path, fault: str
) -> None:
    (tmp_path / ".gitconfig").write_text('[lfs "transfer"]\n\tmaxretries = 1\n')
    setattr(server, fault, True)
    with pytest.raises(git_module.GitFailed, match="lfs"):
        await prepare(fleet, origin)
    setattr(server, fault, False)

    worktree = await prepare(fleet, origin)

    assert (worktree.path / "cat.psd").read_bytes() == PICTURE


async def test_a_server_that_wants_credentials_is_said_so_at_once(
    fleet: Repositories, origin: Origin, server: LfsServer
) -> None:
    server.wants_login = True

    with pytest.raises(git_module.GitFailed) as failed:
        await prepare(fleet, origin)

    assert failed.value.denied, failed.value.detail
    assert not failed.value.away


async def test_credentials_come_from_the_helper_of_the_machine(
    fleet: Repositories, origin: Origin, server: LfsServer, tmp_path: Path
) -> None:
    server.wants_login = True
    host = server.url.split("/")[2]
    (tmp_path / "known").write_text(f"https://{LOGIN[0]}:{LOGIN[1]}@{host}\n")
    (tmp_path / "known").chmod(0o600)
    helper = f"[credential]\n\thelper = store --file {tmp_path / 'known'}\n"
    (tmp_path / ".gitconfig").write_text(helper)

    worktree = await prepare(fleet, origin)

    assert (worktree.path / "cat.psd").read_bytes() == PICTURE
    for place in worktree.path.parent.rglob("*"):
        assert not place.is_file() or LOGIN[1].encode() not in place.read_bytes()


async def test_a_server_that_takes_no_file_leaves_no_pointer_without_one(
    fleet: Repositories, origin: Origin, server: LfsServer
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "dog.psd").write_text("a picture of a dog\n")
    saved = await workspace.finish(worktree, "work")
    server.refuses.add("upload")

    with pytest.raises(git_module.GitFailed) as failed:
        await workspace.push_branch(worktree, "agent/ada/t1", saved.commit)

    assert failed.value.denied, failed.value.detail
    assert origin.tip("agent/ada/t1") == ""
