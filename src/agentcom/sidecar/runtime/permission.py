"""An agent's setting `permissions`: who says whether it may use a tool.

`allow`: it may do everything (the sidecar is the sandbox). `deny`: it may do nothing that it has to
ask for, and is told so. `ask`: a person says, and without an answer in time it may not.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from agentcom.model.errors import InvalidInput

SETTING: Final = "permissions"


class Policy(StrEnum):
    """What becomes of a question for permission."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


def policy_of(settings: Mapping[str, str]) -> Policy:
    """Return the policy in an agent's settings.

    Raises:
        InvalidInput: there is no such policy.
    """
    given = settings.get(SETTING, Policy.ALLOW)
    try:
        return Policy(given)
    except ValueError:
        raise InvalidInput(SETTING, f"one of {', '.join(Policy)}, not {given}") from None
