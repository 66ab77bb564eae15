"""Planted bugs of questions."""

from typing import Final

from agentcom.testing.simulation.planting import Mutant

_TASK: Final = "agentcom.core.task_asks"
_ASKING: Final = "agentcom.core.asking"

ASKS: Final = (
    Mutant(
        "a task goes on without the answer",
        "an attempt begins, asks the same again, and is stopped for it again and again",
        _TASK,
        "    if keeps(task) and task.state is _Q:",
        "    if False:",
    ),
    Mutant(
        "a retry forgets the question",
        "an attempt begins though its task still waits for a person's word",
        "agentcom.core.tasks",
        "    if wait is None and task_asks.keeps(task):",
        "    if False:",
    ),
    Mutant(
        "an answer wakes nobody",
        "a person has answered, and the task waits for ever",
        _TASK,
        "            goes_on = task.wait is Wait.ANSWER and not task.asks",
        "            goes_on = False",
    ),
    Mutant(
        "the last answer counts",
        "who answered first is overruled, and the agent works by neither",
        _ASKING,
        "    if ask.state is AskState.OPEN:\n        return\n",
        "    if ask.state is not AskState.WITHDRAWN:\n        return\n",
    ),
    Mutant(
        "the answer is not told",
        "the task goes on, and its agent does not know what was answered",
        "agentcom.hub.bodies",
        "type(effect) is Push and effect.assignment.answered",
        "type(effect) is Push and False",
    ),
    Mutant(
        "done before it heard",
        "an agent that ends its turn while it asks is done, whatever the answer was",
        "agentcom.core.reports",
        "    if task.asks or task.unheard:",
        "    if task.asks:",
    ),
    Mutant(
        "who fell silent ends unheard",
        "a machine comes back, and ends its work without the answer that came meanwhile",
        _TASK,
        "unheard=(), lost=False)",
        "unheard=())",
    ),
    Mutant(
        "a question outlives its task",
        "people are asked about work that was cancelled",
        "agentcom.core.turn",
        "                questions.over(self, before)\n",
        "                pass\n",
    ),
    Mutant(
        "a restart forgets the deadlines",
        "a question that nobody answers keeps its task for ever after a crash of the hub",
        "agentcom.core.deadlines",
        "        *questions.timers(view, now),\n",
        "",
    ),
    Mutant(
        "an attempt waits for ever",
        "agents that ask fill all slots until somebody answers",
        _ASKING,
        "questions.is_patience_over(ask, now):",
        "False:",
    ),
)
