"""Repositories that keep files in Git LFS, with the real `git-lfs` and an origin on this disk."""

import hashlib
import shutil
from pathlib import Path

import pytest

from agentcom.sidecar import landing, lfs, processes, sandbox, snapshots, trees, workspace
from agentcom.sidecar.config import AgentConfig
from agentcom.sidecar.confines import OPEN, Confines, Sandbox
from agentcom.sidecar.contents import Unfit
from agentcom.sidecar.repositories import Cache, Repositories
from agentcom.sidecar.trees import Worktree
from tests.sidecar.git_origin import ADA, FIRST, SECOND, TASK, Origin, agent, git, prepare
from tests.sidecar.sidecar_world import QUICK
from tests.sidecar.whole_hub import world

FILTERS = (
    ("filter.lfs.process", "git-lfs filter-process"),
    ("filter.lfs.smudge", "git-lfs smudge -- %f"),
    ("filter.lfs.clean", "git-lfs clean -- %f"),
    ("filter.lfs.required", "true"),
)
PICTURE = "a picture of a cat\n"
ATTRIBUTES = "*.psd filter=lfs diff=lfs merge=lfs -text\n"
BRANCH = "agent/ada/t1-cat-7.1"

needs_lfs = pytest.mark.skipif(
    shutil.which("git-lfs") is None, reason="git-lfs IS NOT INSTALLED: apt-get install git-lfs"
)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    made = Origin(tmp_path / "forge")
    for name, value in FILTERS:
        git(made.clone, "config", name, value)
    put(made, {".gitattributes": ATTRIBUTES, "cat.psd": PICTURE})
    return made


@pytest.fixture
def fleet(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "machine")


def put(origin: Origin, files: dict[str, str]) -> str:
    """Push `files`, and what Git LFS keeps of them."""
    for name, text in files.items():
        (origin.clone / name).write_text(text)
    git(origin.clone, "add", "-A")
    git(origin.clone, "commit", "-q", "-m", "files")
    git(origin.clone, "lfs", "push", "origin", "HEAD")
    git(origin.clone, "push", "-q", "origin", "HEAD:refs/heads/main")
    return origin.tip()


def kept(origin: Origin) -> set[str]:
    """Return what the server of the origin has."""
    places = (origin.path / "lfs" / "objects").rglob("*")
    return {place.read_text() for place in places if place.is_file()}


async def finish(worktree: Worktree) -> str:
    saved = await workspace.finish(worktree, "work")
    await workspace.push_branch(worktree, BRANCH, saved.commit, searched=saved.searched)
    return saved.commit


async def read(cache: Cache, commit: str, path: str) -> str:
    async with trees.checkout(cache, commit) as where:
        return (where / path).read_text()


@needs_lfs
async def test_an_agent_finds_the_files_and_what_it_changes_is_pushed(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    found = (worktree.path / "cat.psd").read_text()
    unchanged = await workspace.checkpoint(worktree)
    (worktree.path / "cat.psd").write_text("a picture of a dog\n")
    (worktree.path / "new.psd").write_text("a picture of a bird\n")

    commit = await finish(worktree)

    assert (found, unchanged) == (PICTURE, None)
    assert origin.show(commit, "cat.psd").startswith("version https://git-lfs")
    assert kept(origin) == {PICTURE, "a picture of a dog\n", "a picture of a bird\n"}


@needs_lfs
async def test_what_an_agent_commits_by_its_own_git_is_taken_and_pushed(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "cat.psd").write_text("a picture of a dog\n")
    agent(worktree, "commit", "-qam", "dog")
    agent(worktree, "checkout", "-q", "HEAD~1")
    before = (worktree.path / "cat.psd").read_text()
    agent(worktree, "checkout", "-q", worktree.branch)

    commit = await finish(worktree)

    assert before == PICTURE
    assert await snapshots.tree_of(worktree.cache, commit) == agent(
        worktree, "rev-parse", "HEAD^{tree}"
    )
    assert "a picture of a dog\n" in kept(origin)


@needs_lfs
async def test_another_machine_goes_on_with_a_checkpoint_and_lands(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "cat.psd").write_text("a picture of a dog\n")
    saved = await workspace.checkpoint(worktree)
    assert saved is not None
    other = Repositories(tmp_path / "other")

    again = await prepare(other, origin, SECOND, checkpoint=saved.commit)
    found = (again.path / "cat.psd").read_text()
    commit = await finish(again)
    seen: list[str] = []

    async def verify(where: Path, _base: str, _commit: str) -> bool:
        seen.append((where / "cat.psd").read_text())
        return True

    put(origin, {"other.psd": "a fish\n"})
    landed = await landing.land(
        await other.fetch(origin.url),
        task=TASK,
        fence=SECOND,
        commit=commit,
        base_branch="main",
        verify=verify,
        checked_on=None,
        still_mine=lambda: True,
    )

    assert found == "a picture of a dog\n"
    assert seen == ["a picture of a dog\n"]
    assert await read(again.cache, landed.commit, "other.psd") == "a fish\n"


@needs_lfs
async def test_no_filter_and_no_server_of_an_agent_has_a_say(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    worktree = await prepare(fleet, origin)
    marker, elsewhere = tmp_path / "marker", tmp_path / "elsewhere.git"
    git(tmp_path, "init", "-q", "--bare", str(elsewhere))
    (worktree.path / ".gitattributes").write_text(f"{ATTRIBUTES}*.txt filter=evil\n")
    (worktree.path / ".lfsconfig").write_text(
        f'[lfs]\n\turl = file://{elsewhere}\n\tfetchexclude = "*"\n'
    )
    agent(worktree, "config", "filter.evil.clean", f"touch {marker}")
    agent(worktree, "config", "filter.lfs.clean", f"touch {marker}")
    agent(worktree, "config", "filter.lfs.process", f"touch {marker}")
    (worktree.path / "a.txt").write_text("a")
    (worktree.path / "cat.psd").write_text("a picture of a dog\n")

    commit = await finish(worktree)
    again = await prepare(fleet, origin, SECOND, checkpoint=commit)

    assert not marker.exists()
    assert not (elsewhere / "lfs").exists()
    assert (again.path / "cat.psd").read_text() == "a picture of a dog\n"
    assert "a picture of a dog\n" in kept(origin)


@needs_lfs
async def test_a_secret_in_such_a_file_stays_here(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin)
    secret = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA" + "x" * 64 + "\n"
    (worktree.path / "key.psd").write_text(secret)

    saved = await workspace.finish(worktree, "work")

    assert [finding.path for finding in saved.findings] == ["key.psd"]
    assert "key.psd" not in origin.files(origin.tip())
    assert secret not in kept(origin)


@needs_lfs
async def test_a_file_that_is_not_what_its_name_says_is_not_taken(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    worktree = await prepare(fleet, origin)
    secret = tmp_path / "secret"
    secret.write_text("a secret of the machine\n")
    false, linked = "ab" * 32, hashlib.sha256(secret.read_bytes()).hexdigest()
    for oid, name in ((false, "false.psd"), (linked, "linked.psd")):
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 24\n"
        (worktree.path / name).write_text(pointer)
        place = worktree.path / ".git/lfs/objects" / oid[:2] / oid[2:4]
        place.mkdir(parents=True)
        if oid == false:
            (place / oid).write_text("x" * 24)
        else:
            (place / oid).symlink_to(secret)
    agent(worktree, "add", "-A")
    agent(worktree, "commit", "-qm", "pointers")
    (worktree.path / "more.txt").write_text("more\n")

    commit = await finish(worktree)
    again = await prepare(fleet, origin, SECOND, checkpoint=commit)

    assert kept(origin) == {PICTURE}
    assert (again.path / "cat.psd").read_text() == PICTURE
    assert false in (again.path / "false.psd").read_text()


async def test_a_machine_without_it_says_what_to_install(
    fleet: Repositories, origin_without: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lfs, "program", lambda: None)

    with pytest.raises(Unfit, match="apt-get install git-lfs"):
        await prepare(fleet, origin_without)


@pytest.fixture
def origin_without(tmp_path: Path) -> Origin:
    made = Origin(tmp_path / "plain")
    made.push({".gitattributes": ATTRIBUTES})
    return made


@needs_lfs
async def test_where_the_base_wants_pointers_there_are_pointers(
    fleet: Repositories, origin: Origin
) -> None:
    put(origin, {".agentcom.toml": 'lfs = "pointers"\n'})

    worktree = await prepare(fleet, origin)
    (worktree.path / "work").write_text("x")

    assert (worktree.path / "cat.psd").read_text().startswith("version https://git-lfs")
    assert lfs.filters(worktree.cache) == ()
    await finish(worktree)
    assert not (worktree.cache.path / "lfs").exists()


async def test_other_repositories_never_meet_it(
    fleet: Repositories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Origin(tmp_path / "plain")
    plain.push({"cat.psd": PICTURE})
    monkeypatch.setattr(lfs, "fetch", None)

    worktree = await prepare(fleet, plain)

    assert lfs.filters(worktree.cache) == ()
    assert "filter" not in (worktree.path / ".git/config").read_text()


@needs_lfs
async def test_a_file_that_the_server_lost_is_named(fleet: Repositories, origin: Origin) -> None:
    shutil.rmtree(origin.path / "lfs")

    with pytest.raises(Exception, match="lfs failed"):
        await prepare(fleet, origin, agent=ADA, fence=FIRST)


@needs_lfs
@pytest.mark.slow
@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
@pytest.mark.parametrize("confined", [False, True], ids=["open", "sandbox"])
async def test_a_task_finds_checks_and_lands_the_files_of_a_whole_fleet(
    tmp_path: Path, origin: Origin, *, confined: bool
) -> None:
    if confined and not sandbox.probe().program:
        pytest.skip("no sandbox here")
    confines = Confines(sandbox=Sandbox.REQUIRED) if confined else OPEN
    ada = AgentConfig(name=ADA, runtime="testagent", confines=confines)
    async with world(tmp_path / "world", ada, settings=QUICK) as fleet:
        change = {
            "shell": [
                "sh",
                "-c",
                "grep -q cat cat.psd && echo a dog > dog.psd && git add -A && git commit -qm dog",
            ]
        }
        task = await fleet.submit(
            change,
            {"say": "Done."},
            repo=origin.url,
            base="main",
            land="merge",
            verify=["grep -q cat cat.psd", "grep -q dog dog.psd"],
        )

        row = await fleet.ended(task)

    assert (row["state"], row["verified"]) == ("completed", True), row
    assert origin.show("main", "dog.psd").startswith("version https://git-lfs")
    assert kept(origin) == {PICTURE, "a dog\n"}
