"""The process that the engine runs in: its event loop, signals, forks, and its end."""
