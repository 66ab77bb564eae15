"""What deciding costs, on a machine that does other things too.

Run `python -m bench.deciding [--turns 1200] [--depth 200] [--each 8]`. Each turn has one batch:
some agents accept and finish their tasks and get the next ones, and as many tasks are submitted.
The best twentieth of the turns tells two versions apart that differ by 2 %, if their runs take
turns; the median does not, since other programs slow some turns down to half the speed.
"""

import argparse
import gc
import time

from agentcom.core import pool
from agentcom.hub.process import spare_the_collector
from bench.fleet import Fleet


def turns_us(*, turns: int, depth: int, each: int) -> list[float]:
    """Return what `pool.decide` took for each lifecycle, in order, quickest first."""
    fleet = Fleet(depth, 2 * each)
    spare_the_collector()
    spent: list[float] = []
    decide = pool.decide

    def timed(*args: object, **options: object) -> pool.Plan:
        began = time.perf_counter()
        plan = decide(*args, **options)  # type: ignore[arg-type]  # handed on as they came
        spent.append((time.perf_counter() - began) / each * 1e6)
        return plan

    pool.decide = timed  # type: ignore[assignment]  # the fleet calls it by its module
    for _ in range(turns):
        agents = list(fleet.holding)[:each]
        reports = [fact for it in agents for fact in (fleet.accept(it), fleet.finish(it))]
        fleet.decide([*reports, *(fleet.submit() for _ in range(each))])
    pool.decide = decide
    gc.unfreeze()
    return sorted(spent)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=1_200)
    parser.add_argument("--depth", type=int, default=200)
    parser.add_argument("--each", type=int, default=8)
    options = parser.parse_args()
    found = turns_us(turns=options.turns, depth=options.depth, each=options.each)
    best, median = found[len(found) // 20], found[len(found) // 2]
    print(f"deciding one lifecycle: {best:.1f} us in the best twentieth, {median:.1f} us median")


if __name__ == "__main__":
    main()
