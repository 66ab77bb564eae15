"""Two agents on two machines split a change between them; no person helps them."""

import json
from collections.abc import Mapping

import pytest

from tests.journeys.stage import Computer, Stage, joining

RECEIPT = "from price import price\n\n\ndef receipt(item):\n{}\n"
CENTS = """\
    euros, cents = divmod(price(item), 100)
    return f'{euros}.{cents:02} EUR'"""
FILES = {
    ".agentcom.toml": 'verify = "python3 test_shop.py"\nland = "merge"\n',
    "price.py": "PRICES = {'tea': 3.5}\n\n\ndef price(item):\n    return PRICES[item]\n",
    "receipt.py": RECEIPT.format("    return f'{price(item)} EUR'"),
    "test_shop.py": "from receipt import receipt\n\nassert receipt('tea').endswith(' EUR')\n",
    "CHANGES.md": "# Changes\n\n",
}
PRICE = "PRICES = {'tea': 350}\n\n\ndef price(item):\n    return PRICES[item]\n"


def shell(command: str, *, seen: str = "") -> Mapping[str, object]:
    """Return the step of a command; what it shows is also what the agent has seen."""
    return {"shell": ["sh", "-c", f"({command}) 2>&1 | tee -a {seen}" if seen else command]}


def prompt(title: str, *steps: Mapping[str, object]) -> str:
    lines = "\n".join(map(json.dumps, steps))
    return f"{title}\n\n<<mock:edit>>\n```steps\n{lines}\n```\n"


def ann(repo: str, seen: str) -> str:
    return prompt(
        "Count prices in cents: price.py",
        {"say": "I take price.py. The rest can be done at the same time: bob takes it."},
        shell("agentcom note write cents 'price(item) returns whole cents, as int'", seen=seen),
        shell("agentcom msg send bob 'The plan is in the note cents. Take receipt.py?'", seen=seen),
        {"write": {"path": "price.py", "text": PRICE}},
        {"say": "Both of us change CHANGES.md. I lock it until my change is in main."},
        shell(f"agentcom lock take CHANGES.md --repo {repo} --wait 60s", seen=seen),
        shell("echo '- Prices are whole cents.' >> CHANGES.md"),
        shell("agentcom msg read --wait 60s", seen=seen),
        shell("agentcom ask answer $(agentcom ask ls | cut -f1) 'Euros: 3.50'", seen=seen),
        {"commit": "Count prices in cents"},
        {"say": "price.py counts in cents."},
    )


def bob(repo: str, seen: str) -> str:
    return prompt(
        "Count prices in cents: receipt.py",
        shell("agentcom msg read --wait 60s", seen=seen),
        shell("agentcom note show cents", seen=seen),
        shell("agentcom ask put --to ann 'How shall 350 cents be shown?' --wait 60s", seen=seen),
        {"write": {"path": "receipt.py", "text": RECEIPT.format(CENTS)}},
        {"commit": "Show prices with two places"},
        shell(f"agentcom lock take CHANGES.md --repo {repo} --wait 90s", seen=seen),
        {"say": "Ann's change is in main: I build on it."},
        shell("git pull -q --rebase origin main"),
        shell("echo '- Receipts show two places.' >> CHANGES.md"),
        {"commit": "Tell of the two places"},
        {"say": "receipt.py shows cents."},
    )


@pytest.mark.slow
def test_two_agents_split_a_change_and_finish_without_a_person(stage: Stage) -> None:
    office, attic = stage.computer("office"), stage.computer("attic")
    repo = stage.origin("shop", FILES)
    for name, text in (("ann", ann), ("bob", bob)):
        (office.folder / f"{name}.md").write_text(text(repo, str(stage.folder / f"{name}.txt")))

    stage.say("""A hub and an agent on one computer, and an agent on a second one. Both are test
        agents, which do what the steps in their prompts say; a model would decide on the same
        commands by itself.""")
    office("agentcom up --agent ann=testagent:capabilities=prices")
    code = joining(office("agentcom machine invite"))
    attic(f"agentcom join '{code}' --name attic --agent bob=testagent:capabilities=receipts")
    stage.say("The change has two halves. Each agent gets one, and is told nothing else.")
    office("cat ann.md bob.md")
    they_work(office, f"agentcom submit --repo {repo} --base main")

    stage.say("Nobody helped. This is what ann saw on the way, and what bob saw:")
    said = office(f"cat {stage.folder / 'ann.txt'}")
    assert "How shall 350 cents be shown?" in said
    assert "Euros: 3.50" in attic(f"cat {stage.folder / 'bob.txt'}")
    both_halves_are_in_main(stage, office, repo)
    stage.say("What was asked, and what was agreed on, stays where it can be read.")
    office("agentcom ask ls --ended --json question,answer,state")
    office("agentcom note show cents")
    stage.learn(office)
    stage.publish("two-agents", "Two agents split a change")


def they_work(office: Computer, submit: str) -> None:
    tasks = []
    for name, capability in (("ann", "prices"), ("bob", "receipts")):
        office(f"{submit} --needs {capability} - < {name}.md")
        tasks.append(office.last_task())
    for task in tasks:
        office.until(f"agentcom task show {task}", state="completed")


def both_halves_are_in_main(stage: Stage, office: Computer, repo: str) -> None:
    stage.say("Both halves are in main, the one after the other.")
    office(f"git clone -q {repo} shop")
    office.enter("shop")
    log = office("git log --format=%s")
    assert log.index("Tell of the two places") < log.index("Count prices in cents")
    assert office("cat CHANGES.md").splitlines()[-2:] == [
        "- Prices are whole cents.",
        "- Receipts show two places.",
    ]
    said = office("python3 -c 'from receipt import receipt; print(receipt(\"tea\"))'")
    assert said == "3.50 EUR\n"
