"""A repository that AgentCom has never seen, and its first verified result."""

import time

import pytest

from tests.journeys.stage import Stage

NEWCOMER_S = 300
"""What a newcomer should need, reading included."""
READING_S = 120
"""Of that: for the words of eight commands, at a calm pace."""
FILES = {
    "Makefile": "test:\n\tenv PYTHONPATH=. python3 tests/test_words.py\n",
    "words.py": "def count(text):\n    return len(text)\n",
    "tests/test_words.py": 'from words import count\nassert count("two words") == 2\n',
}
PROMPT = r"""Count words, not letters

<<mock:edit>>
```steps
{"say": "count must split its text."}
{"write": {"path": "words.py", "text": "def count(text):\n    return len(text.split())\n"}}
{"say": "Done."}
```
"""


@pytest.mark.slow
def test_a_repository_never_seen_gets_a_verified_result(stage: Stage) -> None:
    origin = stage.origin("words", FILES)
    laptop = stage.computer("laptop")
    (laptop.folder / "ask.md").write_text(PROMPT)
    laptop(f"git clone -q {origin} words")
    laptop.enter("words")
    began = time.monotonic()

    stage.say("""A project that was never prepared for agents. `agentcom up` in its folder starts a
        hub and an agent, and says how the project is probably checked.""")
    up = laptop("agentcom up --agent tester=testagent")
    assert "words@main, verify: make test (detected)" in up
    stage.say("""What was detected is used when you say so: a check that nobody named proves
        nothing.""")
    watched = laptop("agentcom submit --watch --verify 'make test' - < ../ask.md")
    assert watched.splitlines()[-1].split()[1] == "completed"
    shown = laptop("agentcom task show @last --json state,verified")
    assert '"verified": true' in shown
    stage.say("""The result is on a branch; nothing was merged, since nobody asked for it. To have
        this for every task, put the check into `.agentcom.toml`.""")
    laptop("agentcom task results @last --checks")
    laptop(
        "git fetch -q; git diff --stat main $(git for-each-ref --format='%(refname)' "
        "refs/remotes/origin/agent)",
        shown="git fetch; git diff --stat main origin/agent/...",
    )
    spent_s = time.monotonic() - began
    stage.learn(laptop)
    laptop("agentcom down")

    assert spent_s + READING_S < NEWCOMER_S
    stage.publish("new-repository", "A repository never seen before")
