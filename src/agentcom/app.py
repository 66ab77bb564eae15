"""Composition root: configuration in, a running hub or sidecar out."""
