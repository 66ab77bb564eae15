"""Nothing that a repository or an agent plants is run or followed by the sidecar."""

import os
from pathlib import Path

import pytest

from agentcom.model import refs
from agentcom.sidecar import git, landing, trees, workspace
from agentcom.sidecar.repositories import Repositories
from agentcom.sidecar.trees import Worktree
from tests.sidecar import git_origin
from tests.sidecar.git_origin import FIRST, SECOND, TASK, Origin, prepare


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return Origin(tmp_path_factory.mktemp("template") / "forge")


@pytest.fixture
def origin(tmp_path: Path, template: Origin) -> Origin:
    return Origin(tmp_path / "forge", like=template)


@pytest.fixture
def fleet(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "machine")


EVIL_CONFIG = """
[core]
    fsmonitor = {evil}
    hooksPath = {hooks}
    sshCommand = {evil}
    pager = {evil}
    alternateRefsCommand = {evil}
[filter "evil"]
    clean = {evil}
    smudge = {evil}
    process = {evil}
    required = true
[diff]
    external = {evil}
[diff "evil"]
    textconv = {evil}
[merge "evil"]
    driver = {evil}
[uploadpack]
    packObjectsHook = {evil}
[remote "origin"]
    promisor = true
    uploadpack = {evil}
    receivepack = {evil}
[extensions]
    partialClone = origin
[credential]
    helper = !{evil}
"""
HOOKS = ("post-checkout", "pre-commit", "pre-push", "post-index-change", "reference-transaction")


def plant(worktree: Worktree, evil: Path, hooks: Path) -> Path:
    """Do what a hostile agent can do in its folder; return a repository nested in it."""
    git_dir, nested = worktree.path / ".git", worktree.path / "m"
    for place in (hooks, git_dir / "hooks"):
        place.mkdir()
        for name in HOOKS:
            (place / name).symlink_to(evil)
    config = EVIL_CONFIG.format(evil=evil, hooks=hooks)
    with (git_dir / "config").open("a") as file:
        file.write(config)
    git_origin.git(worktree.path, "init", "-q", str(nested))
    git_origin.git(nested, "commit", "-q", "--allow-empty", "-m", "x")
    (nested / ".git/config").write_text(config)
    (nested / "file").write_text("x")
    (worktree.path / "leak").symlink_to("/etc/passwd")
    return nested


async def test_nothing_that_a_hostile_repository_names_is_run(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    proof, evil = tmp_path / "proof", tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch '{proof}'\ncat\n")
    evil.chmod(0o755)
    modules = f'[submodule "m"]\n\tpath = m\n\turl = ext::{evil}\n'
    attributes = "* filter=evil diff=evil merge=evil\n"
    origin.push({".gitmodules": modules, ".gitattributes": attributes, "data": "x\n"})
    worktree = await prepare(fleet, origin)
    nested = plant(worktree, evil, tmp_path / "hooks")
    (worktree.path / "data").write_text("y\n")

    first = await workspace.checkpoint(worktree)
    (nested / "file").write_text("y")
    saved = await workspace.finish(worktree, "x")
    await workspace.push_branch(worktree, "agent/ada/x", saved.commit)
    base = origin.push({"data2": "moved"})
    landed = await landing.land(
        worktree.cache, task=TASK, fence=FIRST, commit=saved.commit, base_branch="main"
    )

    assert first is not None
    assert landed.base_before == base
    assert origin.show("main", "leak") == "/etc/passwd"  # the link itself, not what it leads to
    assert not proof.exists()
    git_origin.git(nested, "status", check=False)
    assert proof.exists()  # the trap does work, for whoever walks into it


async def test_planted_links_lead_none_of_our_writes_elsewhere(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    worktree = await prepare(fleet, origin)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("config", "index", "HEAD", "objects/info/alternates"):
        (worktree.path / ".git" / name).unlink()
        (worktree.path / ".git" / name).symlink_to(victim)
    (worktree.path / "work").write_text("x")

    await workspace.finish(worktree, "x")

    assert victim.read_text() == "precious"


async def test_a_folder_that_became_a_link_is_not_followed_at_the_next_attempt(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    worktree = await prepare(fleet, origin)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "test_a.py").write_text("precious")
    trees.discard(worktree.path / "tests")
    (worktree.path / "tests").symlink_to(victim)
    origin.push({"tests/test_b.py": "new\n"})

    second = await prepare(fleet, origin, SECOND)

    assert [place.name for place in victim.iterdir()] == ["test_a.py"]
    assert (victim / "test_a.py").read_text() == "precious"
    assert not (second.path / "tests").is_symlink()
    assert (second.path / "tests/test_b.py").read_text() == "new\n"


async def test_an_origin_without_room_for_fences_is_an_error_at_once(
    fleet: Repositories, origin: Origin
) -> None:
    hook = origin.path / "hooks/update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\necho "$1" >> pushed; echo no such refs here >&2; exit 1\n')
    hook.chmod(0o755)

    with pytest.raises(git.PushRejected, match="no such refs here"):
        await prepare(fleet, origin)
    assert (origin.path / "pushed").read_text() == f"{refs.fence_ref(TASK)}\n"


async def test_hooks_of_the_users_template_are_not_copied(
    fleet: Repositories, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "template/hooks"
    template.mkdir(parents=True)
    (template / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(template.parent))

    worktree = await prepare(fleet, origin)

    assert not (worktree.path / ".git/hooks").exists()
    assert not (worktree.cache.path / "hooks").exists()
    assert os.environ["GIT_TEMPLATE_DIR"]
