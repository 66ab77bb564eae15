"""Frames that tests of the machine send again and again."""

from agentcom.model.ids import Fence
from agentcom.model.result import ReportKind, Result
from agentcom.protocol import frames
from agentcom.sidecar import machine_values as values
from tests.sidecar.machine_world import DONE, T1, Machine, connected, key

F1, F2 = Fence(7, 1), Fence(7, 2)

ACK = frames.Ack(task=T1, fence=F1, of=ReportKind.FINISH)

STALE = frames.StopFrame(task=T1, fence=F1)

GRANT = frames.LandFrame(task=T1, fence=F1)


def finished(result: Result = DONE) -> Machine:
    made = connected().running()
    made.take(values.Ended(key(), result))
    return made
