"""Where the code of an operator runs: on the event loop, in a thread, or in a process."""
