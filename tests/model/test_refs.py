"""Tests of agentcom.model.refs."""

import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentcom.model import refs
from agentcom.model.ids import AgentId, Fence, TaskId

TASK = TaskId("01k9zq3v4c")
FENCE = Fence(1_795_000_000, 3)


def test_a_branch_names_agent_task_title_and_attempt() -> None:
    name = refs.branch_name(agent=AgentId("ada"), task=TASK, title="Fix Login!", fence=FENCE)

    assert name == "agent/ada/01k9zq3v4c-fix-login-1795000000.3"
    assert refs.check_branch(name) == name


def test_private_refs_carry_task_and_fence() -> None:
    assert refs.checkpoint_ref(TASK, FENCE) == f"refs/agentcom/checkpoint/{TASK}/1795000000.3"
    assert refs.fence_ref(TASK) == f"refs/agentcom/fence/{TASK}"


@given(st.text(max_size=300))
@example("-" * 80)
@example("a" * 39 + " b")
def test_a_slug_is_always_safe(title: str) -> None:
    made = refs.slug(title)

    assert 1 <= len(made) <= 40
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not made.startswith("-")
    assert not made.endswith("-")


@pytest.mark.parametrize("task", ["../x", "-x", "a b", "", "A", "x" * 64, "a/b", "a\n"])
def test_only_ids_become_part_of_a_ref(task: str) -> None:
    with pytest.raises(refs.UnsafeRef):
        refs.fence_ref(TaskId(task))


@pytest.mark.parametrize(
    "name",
    [
        "-x",
        "--upload-pack=touch",
        "a/-b",
        "a..b",
        "a@{1}",
        "a b",
        "a;b",
        "$(x)",
        "a\nb",
        "a\x7fb",
        "a//b",
        "/a",
        "a/",
        "a.lock",
        "a/.b",
        "a.",
        "a:b",
        "a^",
        "a~1",
        "a\\b",
        "a*",
        "HEAD",
        "@",
        "refs/heads/main",
        "x" * 201,
        "",
    ],
)
def test_a_branch_that_git_may_misread_is_refused(name: str) -> None:
    with pytest.raises(refs.UnsafeRef):
        refs.check_branch(name)


@given(st.text(st.sampled_from("ab.-/@{}~^:*?[\\ #=+_;$HEAD1"), max_size=12))
@settings(max_examples=60, deadline=None)
def test_git_agrees_with_every_branch_that_is_allowed(name: str) -> None:
    try:
        refs.check_branch(name)
    except refs.UnsafeRef:
        return
    asked = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False)

    assert asked.returncode == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/team/api.git",
        "https://example.com:8443/~me/api",
        "https://[::1]/api.git",
        "ssh://git@example.com:2222/team/api.git",
        "git@example.com:team/api.git",
        "host:/srv/git/api.git",
        "/srv/git/api.git",
        "/srv/code/my code/api",
        "file:///srv/git/api.git",
    ],
)
def test_known_kinds_of_repository_are_allowed(url: str) -> None:
    assert refs.check_repository(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "-oProxyCommand=touch",
        "--upload-pack=touch x",
        "ext::sh -c touch",
        "ext::sh",
        "fd::17",
        "http://example.com/x",
        "git://example.com/x",
        "https://user:secret@example.com/x",
        "https://token@example.com/x",
        "ssh://user:secret@example.com/x",
        "ssh://-oProxyCommand=x/y",
        "git@-oProxyCommand=x:y",
        "host:-x",
        "https://example.com/../x",
        "host:../x",
        "/srv/../etc",
        "file://host/x",
        "file:x",
        "file:///a/../b",
        "relative/path",
        "../x",
        "/a\nb",
        "/a\x00b",
        'https://example.com/"x',
        "https://example.com/a b",
        "",
        "/" + "x" * 1_000,
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(refs.UnsafeRepository):
        refs.check_repository(url)


@pytest.mark.parametrize("url", ["https://user:s3cr3t@h/x", "foo://user:s3cr3t@h/x"])
def test_a_refusal_never_repeats_credentials(url: str) -> None:
    with pytest.raises(refs.UnsafeRepository) as refused:
        refs.check_repository(url)

    assert "s3cr3t" not in refused.value.message


@pytest.mark.parametrize("commit", ["HEAD", "abc", "-x", "g" * 40, "a" * 41, "A" * 40])
def test_only_full_hashes_are_commits(commit: str) -> None:
    with pytest.raises(refs.UnsafeRef):
        refs.check_commit(commit)
