"""Tests of agentcom.sidecar.land and checks: nothing lands that was not verified where it lands."""

from pathlib import Path

import msgspec
import pytest

from agentcom.model import errors
from agentcom.model.result import Landing, LandStatus, Result, ResultStatus
from agentcom.model.task import TaskSpec
from agentcom.model.verification import CheckResult, Report
from agentcom.sidecar import checks, git, land, repositories
from agentcom.sidecar.config import RepositorySettings, Settings
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.repositories import Repositories
from tests.sidecar.git_origin import ADA, FIRST, SECOND, Machine, Origin
from tests.sidecar.sidecar_world import QUICK, record

GOOD = "test ! -f bad"


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "forge")


@pytest.fixture
def ada(tmp_path: Path, origin: Origin) -> Machine:
    return Machine(tmp_path / "ada", origin, ADA)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repositories, "RETRY_S", 0.0)


def confirmed(origin: Origin, *commands: str) -> Settings:
    known = {origin.url: RepositorySettings(verify=commands)}
    return msgspec.structs.replace(QUICK, repositories=known)


def granted(origin: Origin, commit: str, base: str, *names: str) -> Record:
    """Return the record of the machine that did the work and checked it on `base`."""
    report = Report(commit=commit, checks=tuple(CheckResult(name=n, passed=True) for n in names))
    result = Result(
        status=ResultStatus.DONE,
        commit=commit,
        base_commit=base,
        land_key=f"{origin.url}#main",
        report=report,
    )
    made = record(TaskSpec(title="A task", prompt="x", repo=origin.url))
    return msgspec.structs.replace(made, result=result)


def elsewhere(origin: Origin, commit: str, base: str) -> Record:
    """Return the record of a machine that only lands."""
    spec = TaskSpec(title="A task", prompt="x", repo=origin.url)
    made = record(spec, attempt=2, landing_only=True, commit=commit)
    assignment = msgspec.structs.replace(made.assignment, base_commit=base)
    return msgspec.structs.replace(made, assignment=assignment)


async def landed(ada: Machine, made: Record, settings: Settings = QUICK) -> Landing:
    done = await land.land(made, ada.repositories, settings, lambda: True)
    assert done is not None
    return done


async def test_a_machine_without_the_confirmed_check_does_not_land_unverified(
    ada: Machine, origin: Origin
) -> None:
    base = origin.tip()
    commit = await ada.work(SECOND, {"a": "a"})
    moved = origin.push({"bad": "x"})

    refused = await landed(ada, elsewhere(origin, commit, base))
    checked = await landed(ada, elsewhere(origin, commit, base), confirmed(origin, GOOD))

    assert refused.status is LandStatus.ERROR
    assert "not landed unverified" in refused.message
    assert checked.status is LandStatus.VERIFICATION
    assert origin.tip() == moved


async def test_a_check_that_a_person_took_away_meanwhile_is_missed(
    ada: Machine, origin: Origin
) -> None:
    base = origin.tip()
    commit = await ada.work(FIRST, {"a": "a"})
    moved = origin.push({"meanwhile": "x"})

    refused = await landed(
        ada, granted(origin, commit, base, "pytest -q"), confirmed(origin, "true")
    )

    assert refused.status is LandStatus.ERROR
    assert "pytest -q" in refused.message
    assert origin.tip() == moved


async def test_the_checks_of_the_moved_base_count(ada: Machine, origin: Origin) -> None:
    base = origin.push({".agentcom.toml": 'verify = "true"\n'})
    commit = await ada.work(FIRST, {"bad": "a"})
    moved = origin.push({".agentcom.toml": f'verify = "{GOOD}"\n'})

    refused = await landed(ada, granted(origin, commit, base, "true"))

    assert refused.status is LandStatus.VERIFICATION
    assert refused.report is not None
    assert [check.name for check in refused.report.checks] == [GOOD, "true"]
    assert origin.tip() == moved


async def test_a_moved_base_does_not_take_the_first_checks_away(
    ada: Machine, origin: Origin
) -> None:
    base = origin.push({".agentcom.toml": f'verify = "{GOOD}"\n'})
    commit = await ada.work(FIRST, {"a": "a"})
    moved = origin.push({".agentcom.toml": "", "bad": "x"})

    refused = await landed(ada, granted(origin, commit, base, GOOD))

    assert refused.status is LandStatus.VERIFICATION
    assert origin.tip() == moved


async def test_a_set_up_step_that_the_base_dropped_is_not_missed(
    ada: Machine, origin: Origin
) -> None:
    base = origin.push({".agentcom.toml": 'verify = "true"\nsetup = "touch set-up"\n'})
    commit = await ada.work(FIRST, {"a": "a"})
    origin.push({".agentcom.toml": 'verify = "true"\n'})

    done = await landed(ada, granted(origin, commit, base, "touch set-up", "true"))

    assert done.status is LandStatus.LANDED
    assert done.report is not None
    assert done.report.commit == done.commit == origin.tip()


async def test_a_base_file_that_nobody_understands_lands_nothing(
    ada: Machine, origin: Origin
) -> None:
    base = origin.tip()
    commit = await ada.work(FIRST, {"a": "a"})
    moved = origin.push({".agentcom.toml": "verify = 'a && b'\n"})

    assert (await landed(ada, granted(origin, commit, base))).status is LandStatus.ERROR
    assert origin.tip() == moved


async def test_a_landing_that_is_called_off_on_the_way_is_not_pushed(
    ada: Machine, origin: Origin
) -> None:
    base = origin.tip()
    made = granted(origin, await ada.work(FIRST, {"a": "a"}), base, "true")
    answers = [True, False]

    done = await land.land(made, ada.repositories, QUICK, lambda: answers.pop(0))

    assert done is None
    assert answers == []
    assert origin.tip() == base


async def test_an_origin_that_is_away_for_a_moment_fails_no_landing(
    ada: Machine, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = origin.tip()
    made = granted(origin, await ada.work(FIRST, {"a": "a"}), base, "true")
    real, calls = Repositories.fetch, [0]

    async def flaky(self: Repositories, url: str) -> repositories.Cache:
        calls[0] += 1
        if calls[0] < repositories.REMOTE_TRIES_MAX:
            raise git.GitFailed("fetch", 128, "could not resolve host")
        return await real(self, url)

    monkeypatch.setattr(Repositories, "fetch", flaky)

    assert (await landed(ada, made)).status is LandStatus.LANDED


async def test_an_origin_that_stays_away_is_an_error(
    ada: Machine, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = granted(origin, await ada.work(FIRST, {"a": "a"}), origin.tip(), "true")
    calls: list[str] = []

    async def broken(_: Repositories, url: str) -> repositories.Cache:
        calls.append(url)
        raise git.GitFailed("fetch", 128, "could not resolve host")

    monkeypatch.setattr(Repositories, "fetch", broken)

    done = await landed(ada, made)

    assert done.status is LandStatus.ERROR
    assert "could not resolve host" in done.message
    assert len(calls) == repositories.AWAY_TRIES_MAX


async def test_without_any_check_a_moved_base_cannot_be_planned(
    ada: Machine, origin: Origin
) -> None:
    spec = TaskSpec(title="A task", prompt="x", repo=origin.url)

    with pytest.raises(errors.Conflict, match="merge by hand"):
        await checks.plan_again(
            spec, QUICK, await ada.cache(), checked_on=None, base=origin.tip(), first=None
        )
