"""Shell around the core: batch, decide, commit, perform."""
