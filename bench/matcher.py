"""What the matching index costs, in CPU microseconds per operation.

Run: python bench/matcher.py [--full]
Columns: submit (intern and queue), ready (an agent takes its next task: pick, withdraw, note its
slots twice), sync (a task finds an idle agent), memory per queued task without its id.
"""

import gc
import random
import sys
import tracemalloc
from collections.abc import Callable
from time import process_time
from typing import Final

from agentcom.core.fairness import Fairness, rank
from agentcom.core.matcher import Matcher
from agentcom.core.shapes import Offers, ShapeId, Shapes, Wants
from agentcom.model.ids import AgentId, TaskId, UserId
from agentcom.model.requirement import Requirement, canonical, canonical_capabilities

SHAPES: Final = 1_400
CLASSES: Final = 290
SEED: Final = 7
SAMPLE: Final = 5_000


def needs_of(chance: random.Random) -> tuple[Requirement, ...]:
    """Return the needs of one shape: most name a repository, some more."""
    texts = [f"repo=r{chance.randrange(60)}", f"python>=3.{chance.randrange(9, 13)}"]
    texts += [f"tool{chance.randrange(8)}" for _ in range(chance.randrange(3))]
    return canonical(texts)


def offers_of(chance: random.Random) -> list[str]:
    """Return what one class of agents offers."""
    repos = [f"repo=r{n}" for n in chance.sample(range(60), 28)]
    tools = [f"tool{n}" for n in chance.sample(range(8), 5)]
    return [*repos, *tools, f"python=3.{chance.randrange(10, 13)}"]


class Scene:
    """A fleet and a queue of a given size."""

    def __init__(self, agents: int) -> None:
        self.chance = random.Random(SEED)
        self.shapes = Shapes()
        self.matcher = Matcher(self.shapes)
        self.fairness = Fairness([])
        distinct: set[tuple[Requirement, ...]] = set()
        while len(distinct) < SHAPES:
            distinct.add(needs_of(self.chance))
        self.needs = sorted(distinct)
        self.shape_ids: list[ShapeId] = []
        for needs in self.needs:
            self.shape_ids.append(self.shapes.shape_of(Wants(needs)))
            self.shapes.retain(self.shape_ids[-1])
        classes = []
        for _ in range(min(agents, CLASSES)):
            class_id = self.shapes.class_of(Offers(canonical_capabilities(offers_of(self.chance))))
            self.shapes.retain_class(class_id)
            classes.append(class_id)
        self.agents = [(AgentId(f"agent-{n}"), classes[n % len(classes)]) for n in range(agents)]
        self.per_class = sum(len(self.shapes.compatible_shapes(c)) for c in classes) / len(classes)
        for agent_id, class_id in self.agents:
            self.matcher.set_free(agent_id, class_id, 0)
        self.users = [UserId(f"user-{n}") for n in range(50)]
        self.seq = 0

    def submit(self, task_id: TaskId) -> None:
        """Queue one task as the pool does it."""
        self.seq += 1
        user = self.users[self.seq % 50]
        shape = self.shapes.shape_of(Wants(self.needs[self.seq * 7919 % SHAPES]))
        place = rank(self.fairness.start_tag(user), self.seq % 5 - 2, self.seq)
        self.matcher.enqueue(task_id, shape, place)

    def ready(self, at: int) -> bool:
        """Let one agent become ready and take its next task."""
        agent_id, class_id = self.agents[at % len(self.agents)]
        self.matcher.set_free(agent_id, class_id, 1)
        task_id = self.matcher.pick_task(class_id)
        if task_id is None:
            return False
        self.matcher.withdraw(task_id)
        self.matcher.set_free(agent_id, class_id, 0)
        return True


def each(count: int, action: Callable[[int], object]) -> float:
    """Return CPU microseconds per call, in the best of five parts: neighbours only add."""
    part = count // 5
    best = float("inf")
    for first in range(0, part * 5, part):
        start = process_time()
        for number in range(first, first + part):
            action(number)
        best = min(best, process_time() - start)
    return best / part * 1e6


def measure(tasks: int, agents: int) -> str:
    """Return one line of the table."""
    scene = Scene(agents)
    names = [TaskId(f"{n:026d}") for n in range(tasks + SAMPLE)]
    each(tasks, lambda n: scene.submit(names[n]))
    scene.fairness.settle()
    submit = each(SAMPLE, lambda n: scene.submit(names[tasks + n]))
    scene.fairness.settle()
    ready = each(SAMPLE, scene.ready)
    for agent_id, class_id in scene.agents:
        scene.matcher.set_free(agent_id, class_id, 1)
    sync = each(SAMPLE, lambda n: scene.matcher.pick_agent(scene.shape_ids[n % SHAPES]))
    # One idle class in ten is nearer to a busy fleet than all of them.
    for at, (agent_id, class_id) in enumerate(scene.agents):
        scene.matcher.set_free(agent_id, class_id, int(at < len(scene.agents) // 100 + 1))
    busy = each(SAMPLE, lambda n: scene.matcher.pick_agent(scene.shape_ids[n % SHAPES]))
    return (
        f"{tasks:>9,} {agents:>7,} {scene.per_class:>7.0f} {submit:>8.2f} {ready:>8.1f}"
        f" {sync:>10.2f} {busy:>10.2f}"
    )


def memory(tasks: int) -> float:
    """Return bytes that the index holds for each queued task, without its id."""
    scene = Scene(1)
    names = [TaskId(f"{n:026d}") for n in range(tasks)]
    tracemalloc.start()
    for name in names:
        scene.submit(name)
    scene.fairness.settle()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / tasks


def main() -> None:
    """Print the table."""
    gc.disable()
    sizes = [10_000, 100_000, *([1_000_000] if "--full" in sys.argv else [])]
    print(
        f"{'queued':>9} {'agents':>7} {'S/class':>7} {'submit':>8} {'ready':>8}"
        f" {'sync, idle':>10} {'sync, busy':>10}   (us of CPU)"
    )
    for tasks in sizes:
        for agents in (100, 10_000):
            print(measure(tasks, agents), flush=True)
    for tasks in sizes:
        print(f"{tasks:>9,} queued: {memory(tasks):.0f} bytes per task")


if __name__ == "__main__":
    main()
