"""A fleet in one thread under virtual time, broken on purpose; one seed repeats a run exactly."""
