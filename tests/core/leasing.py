"""How tests of leases connect."""

from agentcom.core import facts
from agentcom.model.agent import AgentSpec
from agentcom.model.ids import MachineId
from agentcom.testing.world import TTL_MS

M1 = MachineId("m1")


def connected(*agents: AgentSpec, ttl_ms: int = TTL_MS) -> facts.MachineConnected:
    return facts.MachineConnected(agents=agents, held=(), ttl_ms=ttl_ms, connection=99)
