"""The shell around the core: it keeps time, runs tasks and records facts. The core decides."""
