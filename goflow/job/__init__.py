"""What a user writes: jobs and tasks, and their parameters.

The engine knows nothing else of a definition. Another way of writing jobs is a translator into
these classes.
"""

from goflow.job.job import Job
from goflow.job.task import Isolation, Task

__all__ = ["Isolation", "Job", "Task"]
