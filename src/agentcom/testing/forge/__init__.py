"""Stand-ins for forges: the documented requests, and nothing else, on a loopback port."""
