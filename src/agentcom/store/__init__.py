"""Durable state: one contract, several adapters."""
