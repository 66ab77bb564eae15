"""Forges: where branches become pull requests, and people say what they think of them."""
