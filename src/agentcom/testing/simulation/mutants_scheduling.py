"""Planted bugs of what decides when work starts: limits, budgets, pauses, edits, schedules."""

from typing import Final

from agentcom.testing.simulation.planting import Mutant

_PASSING: Final = "agentcom.core.passing"
_LANES: Final = "agentcom.core.lanes"
_HOLDING: Final = "agentcom.core.holding"
_LOADING: Final = "agentcom.core.loading"
_AGENT: Final = "agentcom.model.agent"
_RUNS: Final = "agentcom.hub.schedule_runs"
_TURN: Final = "agentcom.core.turn"
_SPENDING: Final = "agentcom.core.spending"
_ATTEMPTS: Final = "agentcom.sidecar.machine_attempts"

SCHEDULING: Final = (
    Mutant(
        "a pause that keeps nothing out",
        "what joins the queue of a paused project is given out",
        "agentcom.core.gates",
        "        if self.pauses or task.paused is not None:\n",
        "        if False:\n",
        often="operator",
    ),
    Mutant(
        "an edit keeps the old place",
        "a new priority changes nothing",
        _TURN,
        "            self.view.withdraw(after.id)\n        self.view.enqueue(after)\n",
        "            return\n        self.view.enqueue(after)\n",
        often="operator",
    ),
    Mutant(
        "a pause that comes later holds nothing",
        "what was queued before it is given out all the same",
        "agentcom.core.gates",
        "        return bool(self.rules or self.pauses or self.purse.budgets)\n",
        "        return bool(self.rules or self.purse.budgets)\n",
        often="operator",
        seed=5,
    ),
    Mutant(
        "pauses are not loaded",
        "a restart of the hub ends every pause",
        _LOADING,
        "    view.pauses.update({pause.key: pause for pause in rows.pauses})\n",
        "",
        hours=120,
        often="operator",
        seed=8,
    ),
    Mutant(
        "a limit is never given back",
        "after some attempts nothing starts any more",
        _PASSING,
        "        if view.gates.taken.get(scope):\n",
        "        if False:\n",
    ),
    Mutant(
        "a restart forgets what a limit counts",
        "twice as much runs as a limit allows",
        _PASSING,
        "    gates.taken.update(count_taken(view))\n",
        "",
    ),
    Mutant(
        "claims are compared as words",
        "two agents write into one folder",
        "agentcom.model.globs",
        "_may_meet(one, other) and _meet(one, other)",
        "one == other",
    ),
    Mutant(
        "a lane shows what it must hide",
        "a full limit lets one more start",
        _LANES,
        "        where = self._stop(lane)\n        if where is None:\n",
        "        where = None\n        if where is None:\n",
    ),
    Mutant(
        "a lane forgets its second task",
        "what stands behind a limit never starts",
        _LANES,
        "            if lane.heap.heap:\n                self._arrive(lane)\n",
        "            if lane.heap.heap:\n                pass\n",
    ),
    Mutant(
        "files that are free again let nobody in",
        "what waited for claimed files never starts",
        _LANES,
        "        for cause in [cause for cause in causes if self._closed_by(cause) is None]:\n",
        "        for cause in [cause for cause in causes if False]:\n",
    ),
    Mutant(
        "a limit that comes later holds nothing",
        "what was queued before it starts all at once",
        _TURN,
        "        if view.gates.gates_of(task) == view.lanes.gates_of(task.id):\n",
        "        if True:\n",
    ),
    Mutant(
        "resources are never given back",
        "a machine fills up for good",
        _HOLDING,
        "    if task.uses:\n        _count_uses(ledger, task, change)",
        "    if task.uses and change > 0:\n        _count_uses(ledger, task, change)",
        seed=27,
    ),
    Mutant(
        "what is reopened keeps its old place",
        "two tasks have one number, and one comes before everybody",
        "agentcom.core.tasks",
        "    if task.state.terminal:  # its old place",
        "    if False:  # its old place",
        hours=120,
    ),
    Mutant(
        "a turn is settled twice",
        "a budget is used up with half of it unspent",
        _SPENDING,
        "        budgets.settle(turn, usage)\n",
        "        budgets.settle(turn, usage)\n        budgets.settle(turn, usage)\n",
        seed=7,
    ),
    Mutant(
        "a result without its turns",
        "what a link lost is never counted",
        _ATTEMPTS,
        "result=record.result, turns=turns)",
        "result=record.result)",
    ),
    Mutant(
        "turns are acknowledged, not kept",
        "what was spent by attempts that are over by then is not counted",
        _SPENDING,
        "    for spent in body.turns[:TURNS_MAX]:\n        key = ",
        "    for spent in body.turns[:TURNS_MAX] if task is not None and task.state.held else ():\n"
        "        key = ",
        seed=5,
    ),
    Mutant(
        "a budget with an open gate",
        "work begins though nothing is left to spend",
        "agentcom.core.purse",
        "        if spent is not None:\n"
        '            return f"the budget of {named(budget)} is used up: {spent}"\n',
        "        if spent is not None:\n            return None\n",
        seed=7,
    ),
    Mutant(
        "nobody is asked to end",
        "an attempt goes on for hours after its budget is used up",
        _SPENDING,
        "    if why is not None:\n",
        "    if False:\n",
        seed=7,
    ),
    Mutant(
        "a run has no name",
        "a hub that dies between a run and its note runs a schedule twice",
        _RUNS,
        "        fact = Fact(\n            body=body,\n",
        '        key = f"{key}/{self._causes.new()}"\n'
        "        fact = Fact(\n            body=body,\n",
    ),
    Mutant(
        "missed runs are forgotten",
        "what was planned while no hub ran never comes",
        _RUNS,
        "        planned = cron.newest(first, now, count)\n",
        "        planned = []\n",
        often="clock_step",
    ),
    Mutant(
        "what a wrong clock has passed over stays passed",
        "a clock that was a day ahead for a moment stops schedules for a day",
        "agentcom.hub.schedules",
        "        key, row = _key(row), self._plausible(row)\n",
        "        key = _key(row)\n",
        often="clock_step",
    ),
    Mutant(
        "a quarantine that keeps nothing out",
        "an agent that fails whatever it gets goes on failing tasks",
        _AGENT,
        "        return self.quarantined is not None and not self.on_trial\n",
        "        return False\n",
        seed=19,
    ),
    Mutant(
        "a trial takes all slots",
        "each trial of a broken agent fails several tasks at once",
        _AGENT,
        "        return 1 if self.on_trial else self.slots\n",
        "        return self.slots\n",
        often="agent_kill",
        seed=76,
    ),
)
