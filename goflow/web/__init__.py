"""HTTP in, HTTP out: the public contract's routes, over the engine."""
