"""A task has one pull request: whoever brings work to it, however often, and whatever crashes."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from agentcom.model import errors, refs
from agentcom.model.ids import Fence
from agentcom.model.result import Landing, LandStatus, Result, ResultStatus
from agentcom.model.task import LandPolicy, TaskSpec
from agentcom.model.verification import CheckResult, Report
from agentcom.sidecar import fences, git, landing, pulling, review
from agentcom.sidecar.forge.base import Draft, Forge, Kind, PullRequest
from agentcom.sidecar.landing import Work
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.repositories import Repositories
from agentcom.testing.forge.server import ForgeStandIn
from tests.sidecar.forge_world import ANN, TOKEN_ENV, opened, with_work
from tests.sidecar.git_origin import ADA, TASK, Origin
from tests.sidecar.sidecar_world import record

BRANCH = refs.pull_branch(TASK)


class Died(BaseException):
    """The machine's power fails."""


@dataclass
class Desk:
    """One machine that brings the commits of `work` to review."""

    stand_in: ForgeStandIn
    forge: Forge
    origin: Origin
    caches: Repositories

    def record(self, attempt: int = 1, *, again: bool = False, **more: object) -> Record:
        commit = self.origin.tip("work")
        spec = TaskSpec(title="Fix it", prompt="Fix it.", repo=self.origin.url, base="main")
        ran = (CheckResult(name="tests | a`b", passed=True, exit_code=0),)
        result = Result(
            status=ResultStatus.DONE,
            commit=commit,
            summary="Done, @ann <b>as asked</b>.",
            base_commit=self.origin.tip(),
            land=LandPolicy.PULL_REQUEST,
            land_key=f"{self.origin.url}#main",
            report=Report(commit=commit, checks=ran),
            needs_person=("deletes the test tests/test_a.py",),
            **more,  # type: ignore[arg-type] # a test's fields
        )
        made = msgspec.structs.replace(record(spec, attempt=attempt), result=result)
        url = "https://forge.example/pull/1" if again else None
        told = msgspec.structs.replace(made.assignment, pull_request=url)
        return msgspec.structs.replace(made, assignment=told)

    async def bring(
        self,
        made: Record | None = None,
        *,
        verify: landing.Verify | None = None,
        still_mine: Callable[[], bool] = lambda: True,
    ) -> Landing:
        made = made or self.record()
        cache = await self.caches.fetch(self.origin.url)
        result = made.result
        assert result is not None
        assert result.commit is not None
        work = Work(commit=result.commit, checked_on=None, verify=verify)
        order = pulling.Order(record=made, work=work, base="main", still_mine=still_mine)
        return await pulling.bring(cache, self.forge, order)

    async def claim(self, attempt: int) -> None:
        cache = await self.caches.fetch(self.origin.url)
        await fences.claim(cache, task=TASK, fence=Fence(7, attempt), agent=ADA, base_branch="main")


def texts_in(where: Path) -> list[str]:
    return sorted(path.name for path in where.glob("*.txt"))


@pytest.fixture(scope="module")
def like(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return with_work(tmp_path_factory.mktemp("like"))


@pytest.fixture
async def desk(
    tmp_path: Path, like: Origin, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    monkeypatch.setenv(TOKEN_ENV, "forge-token-of-the-fleet")
    async with opened(Kind.GITHUB, tmp_path / "origin", like) as (stand_in, forge, origin):
        made = Desk(stand_in, forge, origin, Repositories(tmp_path / "caches"))
        await made.claim(1)
        yield made
        assert stand_in.strange == []


async def test_work_is_pushed_and_its_pull_request_says_what_it_is(desk: Desk) -> None:
    landed = await desk.bring()

    (pull,) = desk.stand_in.repository.pulls
    assert landed.status is LandStatus.OPENED
    assert landed.branch == pull.branch == BRANCH
    assert landed.commit == desk.origin.tip(BRANCH) == desk.origin.tip("work")
    assert landed.pull_request is not None
    assert landed.pull_request.endswith("/pull/1")
    assert pull.title == "Fix it"
    for said in ("`t1`", "attempt 1 by `ada`", "| `tests / a'b` | passed |", "deletes the test"):
        assert said in pull.body
    assert "@ann" not in pull.body
    assert "<b>" not in pull.body


async def test_the_same_again_changes_nothing(desk: Desk) -> None:
    first = await desk.bring()

    assert await desk.bring() == first
    assert len(desk.stand_in.repository.pulls) == 1
    assert desk.stand_in.count("POST /api/v3/repos/acme/api/pulls ") == 1


async def test_a_crash_between_opening_and_telling_makes_no_second_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = desk.forge.open

    async def dies(draft: Draft) -> PullRequest:
        await opens(draft)
        raise Died

    monkeypatch.setattr(desk.forge, "open", dies)
    with pytest.raises(Died):
        await desk.bring()
    monkeypatch.setattr(desk.forge, "open", opens)

    assert (await desk.bring()).status is LandStatus.OPENED
    assert len(desk.stand_in.repository.pulls) == 1


async def test_an_answer_that_is_lost_is_found_at_once(desk: Desk) -> None:
    refused = iter([True])

    def loses(method: str, path: str) -> tuple[int, dict[str, str]] | None:
        if method == "POST" and path.endswith("/pulls") and next(refused, False):
            desk.stand_in.repository.open(title="Fix it", body="", branch=BRANCH, base="main")
            return 504, {}
        return None

    desk.stand_in.refuse = loses

    assert (await desk.bring()).status is LandStatus.OPENED
    assert len(desk.stand_in.repository.pulls) == 1


async def test_the_next_attempt_moves_the_same_branch(desk: Desk) -> None:
    await desk.bring()
    await desk.claim(2)
    second = desk.origin.push({"more.txt": "more\n"}, "work")

    landed = await desk.bring(desk.record(2, again=True))

    assert landed.commit == second == desk.origin.tip(BRANCH)
    assert len(desk.stand_in.repository.pulls) == 1


async def test_an_attempt_that_was_overtaken_moves_nothing(desk: Desk) -> None:
    await desk.bring()
    before = desk.origin.tip(BRANCH)
    old = desk.record(1)
    await desk.claim(2)
    desk.origin.push({"more.txt": "more\n"}, "work")
    late = desk.record(1)

    with pytest.raises(errors.Stale):
        await desk.bring(late)
    with pytest.raises(errors.Stale):
        await desk.bring(old)
    assert desk.origin.tip(BRANCH) == before


async def test_an_attempt_that_is_overtaken_on_the_way_loses_its_push(desk: Desk) -> None:
    async def meanwhile(_where: Path, _base: str, _commit: str) -> bool:
        await desk.claim(2)
        return True

    await desk.bring()
    desk.origin.push({"reviewer.txt": "by hand\n"}, BRANCH)
    desk.origin.push({"more.txt": "more\n"}, "work")
    before = desk.origin.tip(BRANCH)

    with pytest.raises(errors.Stale):
        await desk.bring(verify=meanwhile)
    assert desk.origin.tip(BRANCH) == before


async def test_what_reviewers_pushed_is_kept_and_checked(desk: Desk) -> None:
    checked: list[str] = []

    async def verify(where: Path, _base: str, _commit: str) -> bool:
        checked.extend(texts_in(where))
        return True

    await desk.bring()
    desk.origin.push({"reviewer.txt": "by hand\n"}, BRANCH)
    desk.origin.push({"more.txt": "more\n"}, "work")

    landed = await desk.bring(verify=verify)

    assert checked == ["more.txt", "new.txt", "reviewer.txt"]
    assert landed.commit == desk.origin.tip(BRANCH)
    assert {"more.txt", "reviewer.txt"} <= set(desk.origin.files(BRANCH))


async def test_work_that_fails_on_what_reviewers_pushed_stays_away(desk: Desk) -> None:
    async def verify(_where: Path, _base: str, _commit: str) -> bool:
        return False

    await desk.bring()
    before = desk.origin.push({"reviewer.txt": "by hand\n"}, BRANCH)
    desk.origin.push({"more.txt": "more\n"}, "work")

    with pytest.raises(landing.VerifyFailed):
        await desk.bring(verify=verify)
    assert desk.origin.tip(BRANCH) == before


async def test_what_reviewers_pushed_elsewise_is_a_conflict(desk: Desk) -> None:
    await desk.bring()
    desk.origin.push({"new.txt": "by hand\n"}, BRANCH)
    desk.origin.push({"new.txt": "by the agent\n"}, "work")

    with pytest.raises(git.MergeConflict):
        await desk.bring()


async def test_without_a_lease_nothing_is_pushed(desk: Desk) -> None:
    with pytest.raises(landing.Suspended):
        await desk.bring(still_mine=lambda: False)

    assert desk.origin.tip(BRANCH) == ""
    assert desk.stand_in.repository.pulls == []


async def test_what_was_merged_meanwhile_has_landed(desk: Desk) -> None:
    await desk.bring()
    merged = desk.stand_in.repository.merge(1)
    await desk.claim(2)
    desk.origin.push({"more.txt": "more\n"}, "work")

    landed = await desk.bring(desk.record(2, again=True))

    assert (landed.status, landed.commit) == (LandStatus.LANDED, merged)


async def test_what_was_closed_meanwhile_is_rejected_and_a_new_order_opens_another(
    desk: Desk,
) -> None:
    await desk.bring()
    desk.stand_in.repository.close(1)
    await desk.claim(2)

    assert (await desk.bring(desk.record(2, again=True))).status is LandStatus.REJECTED
    assert (await desk.bring(desk.record(2))).status is LandStatus.OPENED
    assert len(desk.stand_in.repository.pulls) == 2


async def test_what_was_shown_is_answered_once(desk: Desk) -> None:
    await desk.bring()
    said = desk.stand_in.repository.comment(1, ANN, "Rename it.")
    await desk.claim(2)
    made = desk.record(2, again=True, reviewed=(f"i{said.id}",))

    await desk.bring(made)
    await desk.bring(made)

    comments = [one for one in desk.stand_in.repository.pulls[0].said if one.author != ANN]
    assert len(comments) == 1
    assert f"i{said.id}" in comments[0].body
    assert desk.origin.tip("work")[:12] in comments[0].body
    pull = await desk.forge.show(1)
    assert not await review.Reader(desk.forge).asked(pull, TASK)


async def test_a_secret_in_an_agents_words_is_not_published(desk: Desk) -> None:
    made = desk.record()
    assert made.result is not None
    secret = "ghp_" + "a1B2" * 9
    result = msgspec.structs.replace(made.result, summary=f"The token is {secret}")

    await desk.bring(msgspec.structs.replace(made, result=result))

    assert secret not in desk.stand_in.repository.pulls[0].body
