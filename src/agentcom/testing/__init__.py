"""Public test kit: virtual clock, simulation, factories, conformance suites."""
