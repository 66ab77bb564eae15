"""A fleet of real processes that is broken on purpose, and what must be true of it afterwards."""
