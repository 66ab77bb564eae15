"""Submodules: fetched from where the base says, and from nowhere else."""

from pathlib import Path

import pytest

from agentcom.model.task import TaskSpec
from agentcom.sidecar import checks, setting_up, submodules, trees, workspace
from agentcom.sidecar.config import Settings
from agentcom.sidecar.contents import Unfit
from agentcom.sidecar.repositories import Repositories
from tests.sidecar import git_origin
from tests.sidecar.git_origin import FIRST, SECOND, Origin, prepare, reasons_of


@pytest.fixture
def library(tmp_path: Path) -> Origin:
    made = Origin(tmp_path / "library")
    made.push({"lib.h": "int answer;\n"})
    return made


@pytest.fixture
def origin(tmp_path: Path, library: Origin) -> Origin:
    made = Origin(tmp_path / "forge")
    link(made, "vendor/lib", library.url, library.tip())
    return made


@pytest.fixture
def fleet(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "machine")


def link(origin: Origin, path: str, url: str, commit: str, more: str = "") -> None:
    """Push a submodule to main; `url` may be anything."""
    text = f'[submodule "it"]\n\tpath = {path}\n\turl = {url}\n{more}'
    (origin.clone / ".gitmodules").write_text(text)
    (origin.clone / path).mkdir(parents=True, exist_ok=True)
    git_origin.git(origin.clone, "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    git_origin.git(origin.clone, "add", ".gitmodules")
    git_origin.git(origin.clone, "commit", "-qm", "link")
    git_origin.git(origin.clone, "push", "-q", "origin", "HEAD:main")


async def test_their_files_are_there_and_are_part_of_no_result(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    assert (worktree.path / "vendor/lib/lib.h").read_text() == "int answer;\n"
    assert await workspace.checkpoint(worktree) is None
    (worktree.path / "work").write_text("x")
    (worktree.path / "vendor/lib/built.o").write_text("x")

    saved = await workspace.finish(worktree, "x")

    assert saved.findings == ()
    assert await reasons_of(worktree.cache, worktree.base, saved.commit) == []
    names = (await worktree.cache.run("ls-tree", "-r", "--name-only", saved.commit)).text.split()
    assert names == [".gitmodules", "README", "tests/test_a.py", "vendor/lib", "work"]


async def test_a_change_in_one_is_named_and_not_lost_without_a_word(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "vendor/lib/lib.h").write_text("int question;\n")

    saved = await workspace.finish(worktree, "x")

    assert [str(one) for one in saved.findings] == [f"vendor/lib/lib.h: {submodules.LEFT_OUT}"]


async def test_the_next_attempt_finds_them_as_they_were(
    fleet: Repositories, origin: Origin, library: Origin
) -> None:
    first = await prepare(fleet, origin)
    (first.path / "vendor/lib/lib.h").write_text("changed")
    (first.path / "vendor/lib/more").write_text("x")
    library.path.rename(library.path.with_name("away"))  # it is in a cache by now

    second = await prepare(fleet, origin, SECOND)

    assert [p.name for p in sorted((second.path / "vendor/lib").iterdir())] == [
        "README",
        "lib.h",
        "tests",
    ]
    assert (second.path / "vendor/lib/lib.h").read_text() == "int answer;\n"


async def test_the_checks_find_them_too(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin)
    plan = await checks.plan(TaskSpec(title="t"), Settings(), worktree.cache, worktree.base)

    async with trees.checkout(worktree.cache, worktree.base) as where:
        await setting_up.checked_out(worktree.cache, worktree.base, where, plan, base=worktree.base)
        assert (where / "vendor/lib/lib.h").exists()


async def test_an_agent_cannot_have_another_repository_fetched(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    private = Origin(tmp_path / "private")
    worktree = await prepare(fleet, origin)
    modules = worktree.path / ".gitmodules"
    modules.write_text(modules.read_text().replace("library", "private"))
    saved = await workspace.finish(worktree, "x")
    plan = await checks.plan(TaskSpec(title="t"), Settings(), worktree.cache, worktree.base)

    async with trees.checkout(worktree.cache, saved.commit) as where:
        with pytest.raises(Unfit, match="the base does not know the origin"):
            await setting_up.checked_out(
                worktree.cache, saved.commit, where, plan, base=worktree.base
            )
    assert not fleet.cache(private.url).path.exists()


async def test_a_moved_submodule_needs_a_person(
    fleet: Repositories, origin: Origin, library: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    newer = library.push({"lib.h": "long answer;\n"})
    git_origin.agent(worktree, "update-index", "--cacheinfo", f"160000,{newer},vendor/lib")
    git_origin.agent(worktree, "commit", "-qm", "newer")
    commit = git_origin.agent(worktree, "rev-parse", "HEAD")
    await workspace.rescue(worktree)

    reasons = await reasons_of(worktree.cache, worktree.base, commit)

    assert reasons == ["holds the repository vendor/lib, whose files are not in the commit"]


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c 'touch {proof}'",
        "--upload-pack=touch {proof}",
        "-u./{proof}",
        "git://example.org/x",
        "http://example.org/x",
        "https://me:secret@example.org/x",
        "ssh://-oProxyCommand=touch/x",
        "fd::3",
    ],
)
async def test_an_address_that_is_none_of_ours_is_refused_before_an_agent_starts(
    fleet: Repositories, origin: Origin, tmp_path: Path, url: str
) -> None:
    proof = tmp_path / "proof"
    link(
        origin, "vendor/lib", url.format(proof=proof), origin.tip(), f"\tupdate = !touch {proof}\n"
    )

    with pytest.raises(Unfit, match='submodules = "empty"') as refused:
        await prepare(fleet, origin)

    assert "secret" not in refused.value.message
    assert not proof.exists()
    link(origin, "vendor/lib", url.format(proof=proof), origin.tip())
    origin.push({".agentcom.toml": 'submodules = "empty"\n'})
    worktree = await prepare(fleet, origin)
    assert list((worktree.path / "vendor/lib").iterdir()) == []
    assert await workspace.checkpoint(worktree) is None
    assert worktree.fence == FIRST


@pytest.mark.parametrize(
    ("origin", "url", "means"),
    [
        ("https://a.example/x/y.git", "../z.git", "https://a.example/x/z.git"),
        ("https://a.example/x/y", "../../z", "https://a.example/z"),
        ("https://a.example/x/y/", "./z", "https://a.example/x/y/z"),
        ("git@a.example:x/y", "../z", "git@a.example:x/z"),
        ("git@a.example:y", "../z", "git@a.example:z"),
        ("/srv/x/y", "../z", "/srv/x/z"),
        ("/srv/x", "https://a.example/z", "https://a.example/z"),
    ],
)
def test_relative_addresses_mean_what_git_takes_them_for(origin: str, url: str, means: str) -> None:
    assert submodules._resolved(origin, url) == means


def test_a_folder_of_this_machine_is_taken_for_a_local_origin_alone() -> None:
    assert submodules._address("/srv/x", "v", "/srv/y") == "/srv/y"
    with pytest.raises(Unfit, match="is a folder of this machine"):
        submodules._address("https://a.example/x", "v", "/srv/private")
