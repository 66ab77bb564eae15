"""The process beside the agents of one machine."""
