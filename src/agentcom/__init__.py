"""AgentCom coordinates fleets of AI coding agents on many machines."""

__version__ = "0.1.0"
