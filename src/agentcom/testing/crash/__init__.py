"""Crash states: a store on a disk that loses power, breaks or is full, at each operation."""
