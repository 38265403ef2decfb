"""Operators: the work of a task. `base` is the contract; the other modules implement it."""
