"""What peers of the socket do in many tests."""

from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import TaskSpec
from agentcom.protocol import frames
from tests.transport.peers import SPEC

DONE = Result(status=ResultStatus.DONE, summary="done")


def submit(key: str = "k1", *specs: TaskSpec) -> frames.SubmitFrame:
    return frames.SubmitFrame(key=key, tasks=specs or (SPEC,))
