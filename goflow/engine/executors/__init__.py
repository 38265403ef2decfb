"""Executors run operators: on the event loop, in a thread, or in a process."""
