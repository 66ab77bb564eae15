"""What test runners say at their end: how many tests passed, failed and were skipped.

Each runner has its own words. What none of these patterns knows has no tally.
"""

import re
from collections.abc import Iterable
from typing import Final

from agentcom.model.verification import Tally

_WORDS: Final = {
    "passed": "passed",
    "passing": "passed",
    "failed": "failed",
    "failing": "failed",
    "error": "failed",
    "errors": "failed",
    "failures": "failed",
    "skipped": "skipped",
    "ignored": "skipped",
    "pending": "skipped",
    "todo": "skipped",
    "xfailed": "skipped",
    "xpassed": "passed",
    "deselected": "skipped",
}
_COUNT: Final = re.compile(rf"(\d{{1,9}}) ({'|'.join(_WORDS)})\b")
_LINES: Final = (
    re.compile(r"^=* ?((?:\d+ \w+,? ?)+)in [\d.:]+ ?m?s?\b.*$", re.MULTILINE),  # pytest
    re.compile(r"^test result: \w+\. (.*)$", re.MULTILINE),  # cargo test, once for each crate
    re.compile(r"^Tests:? +(\d+ .*)$", re.MULTILINE),  # jest, vitest
    re.compile(r"^ {2}(\d+ (?:passing|failing|pending)).*$", re.MULTILINE),  # mocha
)
_RAN: Final = re.compile(r"^Ran (\d{1,9}) tests? in ", re.MULTILINE)  # unittest
_OUTCOME: Final = re.compile(r"^(?:OK|FAILED)(?: \((.*)\))?$", re.MULTILINE)
_NAMED: Final = re.compile(r"(failures|errors|skipped|expected failures)=(\d{1,9})")
_TAP: Final = re.compile(r"^[#\u2139] (pass|fail|skipped) (\d{1,9})$", re.MULTILINE)  # node --test
_GO: Final = re.compile(r"^ *--- (PASS|FAIL|SKIP): ", re.MULTILINE)  # go test -v


def tally(output: str) -> Tally | None:
    """Return what the end of a runner's output says; None if it says nothing known."""
    for line in _LINES:
        found = [_counted(match[1]) for match in line.finditer(output)]
        known = [one for one in found if one is not None]
        if known:
            return known[-1] if line is _LINES[0] else _sum(known)
    return _unittest(output) or _tap(output) or _go(output)


def in_words(found: Tally) -> str:
    """Return a tally as people read it."""
    parts = [(found.passed, "passed"), (found.failed, "failed"), (found.skipped, "skipped")]
    return ", ".join(f"{many} {word}" for many, word in parts if many) or "no test ran"


def _counted(text: str) -> Tally | None:
    sums = {"passed": 0, "failed": 0, "skipped": 0}
    pairs = _COUNT.findall(text)
    for many, word in pairs:
        sums[_WORDS[word]] += int(many)
    return Tally(**sums) if pairs else None


def _sum(found: Iterable[Tally]) -> Tally:
    each = tuple(found)
    return Tally(
        passed=sum(one.passed for one in each),
        failed=sum(one.failed for one in each),
        skipped=sum(one.skipped for one in each),
    )


def _unittest(output: str) -> Tally | None:
    ran = list(_RAN.finditer(output))
    outcome = list(_OUTCOME.finditer(output))
    if not ran or not outcome:
        return None
    named = {word: int(many) for word, many in _NAMED.findall(outcome[-1][1] or "")}
    failed = named.get("failures", 0) + named.get("errors", 0)
    skipped = named.get("skipped", 0) + named.get("expected failures", 0)
    passed = max(0, int(ran[-1][1]) - failed - skipped)
    return Tally(passed=passed, failed=failed, skipped=skipped)


def _tap(output: str) -> Tally | None:
    found = {word: int(many) for word, many in _TAP.findall(output)}
    if "pass" not in found:
        return None
    skipped = found.get("skipped", 0)
    return Tally(passed=found["pass"], failed=found.get("fail", 0), skipped=skipped)


def _go(output: str) -> Tally | None:
    words = _GO.findall(output)
    if not words:
        return None
    return Tally(
        passed=words.count("PASS"), failed=words.count("FAIL"), skipped=words.count("SKIP")
    )
