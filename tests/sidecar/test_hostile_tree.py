"""Files, links and objects made to mislead: none is followed, none blocks, no work is lost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentcom.model import errors, refs
from agentcom.sidecar import contents, git, importing, landing, trees, workspace
from agentcom.sidecar.contents import Unfit
from agentcom.sidecar.repositories import Repositories
from tests.sidecar import git_origin
from tests.sidecar.git_origin import FIRST, SECOND, TASK, Origin, agent, prepare, reasons_of


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return Origin(tmp_path_factory.mktemp("template") / "forge")


@pytest.fixture
def origin(tmp_path: Path, template: Origin) -> Origin:
    return Origin(tmp_path / "forge", like=template)


@pytest.fixture
def fleet(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "machine")


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A repository of this computer's person, whose hash the agent happens to know."""
    folder = tmp_path / "private"
    git_origin.git(tmp_path, "init", "-q", "-b", "main", str(folder))
    (folder / "diary").write_text("dear diary\n")
    git_origin.git(folder, "add", "diary")
    git_origin.git(folder, "commit", "-qm", "private")
    return folder


def point_to(worktree: trees.Worktree, commit: str) -> None:
    head = (worktree.path / ".git/HEAD").read_text().removeprefix("ref: ").strip()
    (worktree.path / ".git" / head).write_text(f"{commit}\n")


# The agent's own repository ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HEAD", "packed-refs", "objects/info/alternates", "config"])
async def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(
    fleet: Repositories, origin: Origin, name: str
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "work").write_text("x")
    (worktree.path / ".git" / name).unlink(missing_ok=True)
    os.mkfifo(worktree.path / ".git" / name)

    saved = await workspace.finish(worktree, "x")

    assert "work" in (await worktree.cache.run("ls-tree", "--name-only", saved.commit)).text


async def test_objects_borrowed_from_a_private_repository_are_not_taken(
    fleet: Repositories, origin: Origin, private: Path
) -> None:
    worktree = await prepare(fleet, origin)
    with (worktree.path / ".git/objects/info/alternates").open("a") as file:
        file.write(f"{private / '.git/objects'}\n")
    secret = git_origin.git(private, "rev-parse", "HEAD")
    point_to(worktree, secret)
    assert agent(worktree, "show", "HEAD:diary") == "dear diary"  # the trap is set

    saved = await workspace.checkpoint(worktree)

    assert saved is None
    assert git_origin.git(origin.path, "cat-file", "-t", secret, check=False) == ""


@pytest.mark.parametrize("folder", ["", "/pack"])
async def test_objects_behind_a_link_are_not_taken(
    fleet: Repositories, origin: Origin, private: Path, folder: str
) -> None:
    worktree = await prepare(fleet, origin)
    git_origin.git(private, "repack", "-adq")
    mine = worktree.path / f".git/objects{folder}"
    trees.discard(mine)
    mine.symlink_to(private / f".git/objects{folder}")
    secret = git_origin.git(private, "rev-parse", "HEAD")
    point_to(worktree, secret)

    await workspace.checkpoint(worktree)

    found = await worktree.cache.run("cat-file", "-t", secret, check=False)
    assert found.returncode != 0


async def test_branches_are_read_however_the_agents_git_keeps_them(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    for name in ("loose", "packed", "müde/branch"):
        agent(worktree, "checkout", "-qb", name)
        agent(worktree, "commit", "-q", "--allow-empty", "-m", name)
        if name == "packed":
            agent(worktree, "pack-refs", "--all")
    (worktree.path / ".git/refs/heads/broken").write_text(f"{'0' * 39}1\n")
    (worktree.path / ".git/refs/heads/odd").symlink_to("/etc/passwd")

    await workspace.rescue(worktree)

    kept = f"{refs.rescue_ref(TASK, FIRST)}-refs"
    found = await worktree.cache.run("for-each-ref", "--format=%(refname) %(subject)", f"{kept}/")
    names = dict(
        line.removeprefix(f"{kept}/heads/").split(" ", 1) for line in found.text.split("\n")
    )
    assert names == {
        worktree.branch: "change README tests/test_a.py",
        "loose": "loose",
        "packed": "packed",
        "müde/branch": "müde/branch",
    }
    head = await importing.import_head(worktree)
    assert head == agent(worktree, "rev-parse", "HEAD")


async def test_a_file_that_points_to_another_repository_gives_nothing_away(
    fleet: Repositories, origin: Origin, private: Path
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "sub").mkdir()
    (worktree.path / "sub/.git").write_text(f"gitdir: {private / '.git'}\n")
    (worktree.path / "sub/x").write_text("x")

    saved = await workspace.finish(worktree, "x")
    reasons = await reasons_of(worktree.cache, worktree.base, saved.commit)
    await workspace.push_branch(worktree, "agent/ada/x", saved.commit)

    assert reasons == ["holds the repository sub, whose files are not in the commit"]
    assert "dear diary" not in git_origin.git(origin.path, "log", "--all", "-p")


# The folder --------------------------------------------------------------------------------------


async def test_a_folder_that_was_replaced_by_a_link_is_not_written_to(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    first = await prepare(fleet, origin)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("x")
    trees.discard(first.path)
    first.path.symlink_to(victim)

    second = await prepare(fleet, origin, SECOND)

    assert [place.name for place in victim.iterdir()] == ["precious"]
    assert (second.path / "README").is_file()
    assert not second.path.is_symlink()


async def test_what_git_cannot_read_is_set_aside_and_not_lost(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    first = await prepare(fleet, origin)
    (first.path / "work").write_text("precious")
    (first.path / ".gitattributes").write_text("* working-tree-encoding=UTF-16\n")
    with pytest.raises(git.GitFailed):
        await workspace.checkpoint(first)

    second = await prepare(fleet, origin, SECOND)

    (aside,) = trees.aside(tmp_path / "machine").iterdir()
    assert (aside / "work").read_text() == "precious"
    assert not (second.path / "work").exists()


async def test_a_folder_that_cannot_be_kept_is_not_removed(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "sub").mkdir()
    apart = f"--separate-git-dir={worktree.state / 'apart'}"
    agent(worktree, "init", "-q", apart, "sub")  # without a commit, git can make nothing of it

    with pytest.raises(git.GitFailed):
        await workspace.remove(worktree)
    assert worktree.path.is_dir()


def nest(where: Path, name: str, depth: int) -> None:
    """Make folders in folders, beyond what a path can name."""
    lines = (f"for _ in range({depth}):", f"    os.mkdir('{name}')", f"    os.chdir('{name}')")
    make = "\n".join(("import os", *lines, "open('f', 'w').close()"))
    subprocess.run([sys.executable, "-c", make], cwd=where, check=True)


def test_folders_in_folders_without_end_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    nest(tmp_path / "deep", "d", 3_000)

    trees.discard(tmp_path / "deep")

    assert not (tmp_path / "deep").exists()


async def test_names_beyond_the_longest_path_do_not_stop_the_next_attempt(
    fleet: Repositories, origin: Origin
) -> None:
    first = await prepare(fleet, origin)
    (first.path / "work").write_text("x")
    nest(first.path, "n" * 200, 30)

    second = await prepare(fleet, origin, SECOND)

    assert sorted(place.name for place in second.path.iterdir()) == [".git", "README", "tests"]


# What a result may hold --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "leaves"),
    [
        ("/etc/passwd", True),
        ("../../other", True),
        ("..", True),
        ("../.git/config", True),
        ("../README", False),
        ("test_a.py", False),
    ],
)
async def test_a_link_that_leads_out_needs_a_person(
    fleet: Repositories, origin: Origin, target: str, *, leaves: bool
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "tests/link").symlink_to(target)
    if target == "..":
        (worktree.path / "tests/link").rename(worktree.path / "link")
    saved = await workspace.finish(worktree, "x")

    reasons = await reasons_of(worktree.cache, worktree.base, saved.commit)

    assert bool(reasons) == leaves
    assert all("leads out of the repository" in reason for reason in reasons)


# What origin may hold ----------------------------------------------------------------------------


def push_tree(origin: Origin, tree: str) -> str:
    commit = git_origin.git(origin.path, "commit-tree", "-m", "x", "-p", origin.tip(), tree)
    git_origin.git(origin.path, "update-ref", "refs/heads/main", commit)
    return commit


def made_tree(origin: Origin, *lines: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(origin.path), "mktree", "--missing"],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


async def test_a_tree_that_holds_itself_too_often_is_not_checked_out(
    fleet: Repositories, origin: Origin
) -> None:
    blob = git_origin.git(origin.path, "rev-parse", "main:README")
    tree = made_tree(origin, *(f"100644 blob {blob}\tf{n}" for n in range(10)))
    for _ in range(9):
        tree = made_tree(origin, *(f"040000 tree {tree}\td{n}" for n in range(10)))
    push_tree(origin, tree)

    with pytest.raises(Unfit, match="more than 1000000 files"):
        await prepare(fleet, origin)


async def test_files_are_counted_by_all_of_their_names(fleet: Repositories, origin: Origin) -> None:
    origin.push({"a/x": "1", "a/y": "2", "b/x": "1", "b/y": "2", "c/d/x": "1"})
    cache = await fleet.fetch(origin.url)

    found = await contents.look(cache, origin.tip())

    assert found == contents.Contents(files=7, submodules=False, lfs=False)


async def test_branches_with_odd_names_are_only_names(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    for name in ("-x", "$(touch)", "a;b", "x\u202ey", "HEAD", "agent", "refs/heads/main"):
        place = origin.path / "refs/heads" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{origin.tip()}\n")

    worktree = await prepare(fleet, origin)

    assert worktree.base == origin.tip()
    for name in ("-x", "$(touch)", "HEAD"):
        with pytest.raises(refs.UnsafeRef):
            await prepare(fleet, origin, SECOND, base_branch=name)


async def test_a_branch_may_become_a_folder_of_branches(
    fleet: Repositories, origin: Origin
) -> None:
    origin.push({"x": "1"}, branch="side")
    await fleet.fetch(origin.url)
    git_origin.git(origin.path, "update-ref", "-d", "refs/heads/side")
    tip = origin.push({"x": "2"}, branch="side/one")

    worktree = await prepare(fleet, origin, base_branch="side/one")

    assert worktree.base == tip


async def test_a_renamed_base_is_answered_with_the_name_that_origin_has(
    fleet: Repositories, origin: Origin
) -> None:
    git_origin.git(origin.path, "branch", "-m", "main", "trunk")

    with pytest.raises(errors.NotFound, match="no branch main, and trunk as its default"):
        await prepare(fleet, origin)


async def test_an_origin_without_commits_is_answered_with_what_to_do(
    fleet: Repositories, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.git"
    git_origin.git(tmp_path, "init", "-q", "--bare", str(empty))
    cache = await fleet.fetch(str(empty))

    with pytest.raises(errors.NotFound, match="push a first commit"):
        await fleet.default_branch(str(empty))
    with pytest.raises(errors.NotFound, match="no branch at all: push a first commit"):
        await workspace.prepare(
            cache, task=TASK, base_branch="main", fence=FIRST, agent=git_origin.ADA
        )


def rewrite(origin: Origin) -> str:
    """Take the newest commit of main back, and put another in its place, as a person does."""
    before = git_origin.git(origin.path, "rev-parse", "main~1")
    git_origin.git(origin.path, "update-ref", "refs/heads/main", before)
    return origin.push({"new": "base\n"})


async def test_work_on_a_base_that_was_rewritten_goes_on_without_the_old_history(
    fleet: Repositories, origin: Origin
) -> None:
    dropped = origin.push({"leaked": "oops\n"})
    first = await prepare(fleet, origin)
    (first.path / "README").write_text("better\n")
    (first.path / "work").write_text("x")
    saved = await workspace.checkpoint(first)
    assert saved is not None
    tip = rewrite(origin)

    second = await prepare(fleet, origin, SECOND, checkpoint=saved.commit)

    assert second.resumed
    assert (second.path / "README").read_text() == "better\n"
    assert sorted(p.name for p in second.path.iterdir()) == [
        ".git",
        "README",
        "new",
        "tests",
        "work",
    ]
    assert dropped not in (await second.cache.run("rev-list", second.start)).text
    assert tip in (await second.cache.run("rev-list", second.start)).text


async def test_work_lands_on_a_base_that_was_rewritten_without_the_old_history(
    fleet: Repositories, origin: Origin
) -> None:
    dropped = origin.push({"leaked": "oops\n"})
    worktree = await prepare(fleet, origin)
    (worktree.path / "work").write_text("x")
    saved = await workspace.finish(worktree, "the work")
    rewrite(origin)

    landed = await landing.land(
        worktree.cache,
        task=TASK,
        fence=FIRST,
        commit=saved.commit,
        base_branch="main",
        checked_on=dropped,
    )

    assert origin.log()[0] == "the work"
    assert sorted(origin.files(landed.commit)) == ["README", "new", "tests/test_a.py", "work"]
    assert dropped not in git_origin.git(origin.path, "rev-list", "main")


async def test_a_task_whose_origin_moved_goes_on_in_its_folder(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    first = await prepare(fleet, origin)
    (first.path / "work").write_text("x")
    saved = await workspace.checkpoint(first)
    assert saved is not None
    there = Origin(tmp_path / "elsewhere", like=origin)

    second = await prepare(fleet, there, SECOND, checkpoint=saved.commit)

    assert (second.path, second.url) == (first.path, there.url)
    assert (second.path / "work").read_text() == "x"
    assert agent(second, "status", "--porcelain") == ""
