"""Tokens of people and machines, drawn from a run's chance."""

import random

from agentcom.hub import tokens
from agentcom.model import token_text
from agentcom.model.identity import Credential, CredentialKind, Role
from agentcom.model.ids import MachineId, UserId, WallTime
from agentcom.testing.simulation.clocks import EPOCH_MS


def credential(
    rng: random.Random, kind: CredentialKind, role: Role, owner: UserId, machine: MachineId | None
) -> tuple[Credential, str]:
    """Return the row of a new token, and its text."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    key_id = "".join(rng.choices(digits, k=token_text.ID_CHARS))
    secret = "".join(rng.choices(digits, k=token_text.SECRET_CHARS))
    text = token_text.compose(kind, key_id, secret)
    row = Credential(
        id=key_id,
        kind=kind,
        digest=tokens.digest(text),
        role=role,
        owner=owner,
        created_at=WallTime(EPOCH_MS),
        machine=machine,
    )
    return row, text
