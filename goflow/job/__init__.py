"""Definitions by users: jobs, tasks and parameters.

The engine knows only these classes. Other ways of writing jobs are translated into them.
"""

from goflow.job.job import Job
from goflow.job.mapping import zipped
from goflow.job.task import Isolation, Task

__all__ = ["Isolation", "Job", "Task", "zipped"]
