"""Output of tasks: captured, bounded, and passed to the journal."""
