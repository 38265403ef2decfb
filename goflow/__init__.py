"""goflow: a DAG scheduler and live dashboard in one Python process.

The names below are the public ones; everything else may change.
"""

from goflow.app import Goflow
from goflow.core.retry import ConstantDelay, ExponentialBackoff
from goflow.core.schedule import Schedule
from goflow.core.states import State, TriggerRule
from goflow.errors import GoflowError, InvalidJob, Later, Skip, StoreError, TaskFailed
from goflow.job import Job, Task, zipped
from goflow.operators.base import Context
from goflow.operators.command import Command
from goflow.operators.http import Get, Post
from goflow.operators.outcome import Outcome
from goflow.operators.subjobs import RunJob
from goflow.operators.waits import WaitFor, WaitForFile, WaitForJob, WaitForUrl, WaitUntil
from goflow.stores.memory import MemoryStore
from goflow.stores.sqlite import SqliteStore
from goflow.templates.template import Template
from goflow.web.access_log import AccessLog

__version__ = "0.1.0"

__all__ = [
    "AccessLog",
    "Command",
    "ConstantDelay",
    "Context",
    "ExponentialBackoff",
    "Get",
    "Goflow",
    "GoflowError",
    "InvalidJob",
    "Job",
    "Later",
    "MemoryStore",
    "Outcome",
    "Post",
    "RunJob",
    "Schedule",
    "Skip",
    "SqliteStore",
    "State",
    "StoreError",
    "Task",
    "TaskFailed",
    "Template",
    "TriggerRule",
    "WaitFor",
    "WaitForFile",
    "WaitForJob",
    "WaitForUrl",
    "WaitUntil",
    "__version__",
    "zipped",
]
