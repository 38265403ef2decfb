"""The shell: it keeps time, runs tasks and writes down what happened; the core decides."""
