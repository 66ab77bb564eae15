"""Typed Python client of a hub."""
