"""Values and a small world for tests of the sidecar's machine."""

from collections.abc import Iterable

from agentcom.model.agent import AgentSpec, Assignment
from agentcom.model.ids import AgentId, Fence, Instant, TaskId, UserId, WallTime
from agentcom.model.replies import Welcomed
from agentcom.model.result import Landing, LandStatus, Result, ResultStatus
from agentcom.model.task import LandPolicy, TaskBody, TaskSpec
from agentcom.model.verification import CheckResult, Report
from agentcom.protocol import frames
from agentcom.sidecar import machine
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Key, Order, Record

ADA, BOB = AgentId("ada"), AgentId("bob")
T1, T2 = TaskId("t1"), TaskId("t2")
SPECS = (AgentSpec(name=ADA, runtime="testagent"), AgentSpec(name=BOB, runtime="testagent"))
TTL_MS = 20_000
COMMIT = "a" * 40

DONE = Result(status=ResultStatus.DONE, commit=COMMIT)
VERIFIED = Report(commit=COMMIT, checks=(CheckResult(name="test", passed=True),))
LANDS = Result(
    status=ResultStatus.DONE,
    commit=COMMIT,
    report=VERIFIED,
    land=LandPolicy.MERGE,
    land_key="/repo#main",
)
LANDED = Landing(status=LandStatus.LANDED, commit=COMMIT)


def key(task: TaskId = T1, attempt: int = 1) -> Key:
    return Key(task, Fence(7, attempt))


def body(task: TaskId = T1) -> TaskBody:
    spec = TaskSpec(title="A task")
    return TaskBody(id=task, submitter=UserId("eve"), created_at=WallTime(0), cause="c", spec=spec)


def record(
    task: TaskId = T1,
    attempt: int = 1,
    *,
    agent: AgentId = ADA,
    stage: values.Stage = values.Stage.PREPARING,
    result: Result | None = None,
    landing_only: bool = False,
) -> Record:
    assignment = Assignment(
        task=task,
        fence=Fence(7, attempt),
        agent=agent,
        deadline_at=WallTime(0),
        landing_only=landing_only,
    )
    return Record(assignment=assignment, body=body(task), stage=stage, result=result)


def assign(
    task: TaskId = T1, attempt: int = 1, *, agent: AgentId = ADA, landing_only: bool = False
) -> frames.Assign:
    made = record(task, attempt, agent=agent, landing_only=landing_only)
    return frames.Assign(assignment=made.assignment, body=made.body)


def welcome(session: int = 1, incarnation: int = 7) -> frames.Welcome:
    welcomed = Welcomed(session=session, ttl_ms=TTL_MS, heartbeat_ms=5_000, margin_ms=5_000)
    return frames.Welcome(
        version=1, hub="h", incarnation=incarnation, server_ms=0, welcomed=welcomed
    )


class Machine:
    """A machine under test whose disk works at once."""

    def __init__(
        self, records: Iterable[Record] = (), *, disk: bool = True, incarnation: int = 7
    ) -> None:
        self.now = Instant(1_000)
        self.disk = disk
        self.view, orders = machine.load(SPECS, records, incarnation=incarnation)
        self.last: list[Order] = list(orders)

    def take(self, *facts: values.Fact) -> list[Order]:
        """Bring facts, answer orders to the disk, and return all orders."""
        self.last = []
        for fact in facts:
            self._take(fact)
        return self.last

    def connect(self, session: int = 1) -> list[Order]:
        return self.take(values.Connected(), welcome(session))

    def running(self, task: TaskId = T1, attempt: int = 1) -> "Machine":
        self.take(assign(task, attempt))
        return self

    def after(self, delay_ms: int) -> "Machine":
        self.now = Instant(self.now + delay_ms)
        return self

    def stage(self, of: Key | None = None) -> values.Stage | None:
        attempt = self.view.attempts.get(of or key())
        return attempt.stage if attempt is not None else None

    def sent(self) -> list[frames.FromMachine]:
        return [order.frame for order in self.last if isinstance(order, values.Send)]

    def ordered(self, kind: type[Order]) -> list[Order]:
        return [order for order in self.last if isinstance(order, kind)]

    def _take(self, fact: values.Fact) -> None:
        orders = machine.decide(self.view, fact, now=self.now)
        self.last += orders
        for order in orders:
            if isinstance(order, values.Store) and self.disk:
                self._take(values.Stored(order.record.key, order.record.stage))


def connected(records: Iterable[Record] = ()) -> Machine:
    made = Machine(records)
    made.connect()
    return made
