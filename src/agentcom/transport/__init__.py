"""Doors: how the world reaches the hub."""
