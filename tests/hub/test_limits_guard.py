import pytest

from agentcom.hub.limits_guard import (
    ALL_PER_ADDRESS,
    FAILURE_DEBT_MAX_MS,
    FAILURES_PER_ADDRESS,
    FAILURES_PER_KEY,
    RATES,
    Budgets,
    FailureGuard,
    Traffic,
    network,
)
from agentcom.model.errors import RateLimited
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import UserId
from tests.hub.doubles import ManualClock

ADA = Identity(role=Role.SUBMITTER, user=UserId("ada"), credential="c1")
BOB = Identity(role=Role.SUBMITTER, user=UserId("bob"), credential="c2")


def test_every_class_has_a_budget() -> None:
    assert set(RATES) == set(Traffic)


def test_the_default_lets_10_000_tasks_a_second_in() -> None:
    clock, budgets = ManualClock(), Budgets()

    for _ in range(10):
        for _ in range(10):
            budgets.spend(ADA, Traffic.SUBMIT, clock.now(), 1_000)
        clock.advance(1_000)


def test_who_asks_too_much_is_told_when_to_come_back() -> None:
    now, budgets = ManualClock().now(), Budgets()
    budgets.spend(ADA, Traffic.SUBMIT, now, 20_000)

    with pytest.raises(RateLimited) as refused:
        budgets.spend(ADA, Traffic.SUBMIT, now, 1_000)

    assert refused.value.retry_after_ms == 100


def test_one_class_and_one_identity_do_not_use_up_another() -> None:
    now, budgets = ManualClock().now(), Budgets()
    budgets.spend(ADA, Traffic.SUBMIT, now, 20_000)

    budgets.spend(ADA, Traffic.QUERY, now)
    budgets.spend(BOB, Traffic.SUBMIT, now)


def test_an_address_has_a_budget_whoever_asks_from_there() -> None:
    clock, budgets = ManualClock(), Budgets()
    most = ALL_PER_ADDRESS.burst
    for _ in range(10):
        budgets.spend_known("203.0.113.7", clock.now(), most // 10)

    with pytest.raises(RateLimited, match="from one address"):
        budgets.spend_known("::ffff:203.0.113.7", clock.now())
    budgets.spend_known("203.0.113.8", clock.now(), most)
    clock.advance(1_000)
    budgets.spend_known("203.0.113.7", clock.now(), ALL_PER_ADDRESS.units)


def test_progress_beyond_its_budget_is_skipped_without_an_error() -> None:
    now, budgets = ManualClock().now(), Budgets()

    admitted = sum(budgets.admits(ADA, Traffic.PROGRESS, now) for _ in range(5_000))

    assert admitted == RATES[Traffic.PROGRESS].burst


def test_an_address_that_keeps_failing_has_to_wait() -> None:
    now, guard = ManualClock().now(), FailureGuard()
    for _ in range(FAILURES_PER_ADDRESS.burst):
        guard.check_address("192.0.2.1", now)
        guard.failed(now, address="192.0.2.1")

    with pytest.raises(RateLimited):
        guard.check_address("192.0.2.1", now)
    guard.check_address("192.0.2.2", now)


def test_the_wait_grows_with_every_failure_up_to_its_bound() -> None:
    now, guard = ManualClock().now(), FailureGuard()
    for _ in range(10_000):
        guard.failed(now, key="k")

    with pytest.raises(RateLimited) as refused:
        guard.check_key("k", now)

    unit_ms = FAILURES_PER_KEY.per_ms // FAILURES_PER_KEY.units
    assert refused.value.retry_after_ms == FAILURE_DEBT_MAX_MS + unit_ms


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("not an address", "not an address"),
    ],
)
def test_an_ipv6_address_counts_as_its_network(address: str, counted: str) -> None:
    assert network(address) == counted
