"""Names of events and metrics, and log set-up."""
