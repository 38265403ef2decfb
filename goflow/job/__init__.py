"""Definitions by users: jobs, tasks and parameters.

The engine knows only these classes. Other ways of writing jobs are translated into them.
"""

from goflow.job.itemkeys import BadKey, ItemKeys
from goflow.job.job import Job
from goflow.job.mapping import zipped
from goflow.job.task import Isolation, Task
from goflow.templates.template import Template

__all__ = ["BadKey", "Isolation", "ItemKeys", "Job", "Task", "Template", "zipped"]
