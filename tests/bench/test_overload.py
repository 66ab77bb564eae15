"""A hub under ten times what it can, for some seconds; judged by what was counted, not by time."""

import pytest

from bench import overload

pytestmark = [pytest.mark.xdist_group("bench"), pytest.mark.timeout(180)]


def test_a_flooded_hub_refuses_those_who_flood_and_goes_on_with_all_else() -> None:
    # What is sustained in a moment of a busy computer may be a part of what the hub can.
    found = overload.measure(seconds=2.0, sustained_s=0.3, times=15, least_per_s=20_000)

    assert found["submits"]["refused"] + found["reads"]["refused"] > 0
    assert found["submits"]["unhinted"] == found["reads"]["unhinted"] == 0
    assert found["submits"]["failed"] == found["reads"]["failed"] == 0
    for whose in ("finishes", "beats", "quiet"):
        assert found[whose]["taken"] == found[whose]["sent"] > 0, (whose, found)
        assert found[whose]["refused"] == 0
    assert found["memory_max_mib"] - found["memory_before_mib"] < 150
