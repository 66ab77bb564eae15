"""Decisions: pure functions over values. Start at tasks.py, then pool.py."""
