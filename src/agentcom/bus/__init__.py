"""Hints between hubs."""
