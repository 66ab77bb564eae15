"""Loaded once, by the server that hubs are forked from: what each of them would load by itself."""

import gc

from agentcom.testing.crash import hub  # noqa: F401 - what a forked process runs
from agentcom.transport.port import best_socket

best_socket()
gc.collect()
gc.freeze()
