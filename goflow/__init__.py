"""goflow: a DAG scheduler and live dashboard in one Python process.

The names below are the public ones; everything else may change. Each is imported when it is first
used, so that a program loads only the parts that it needs.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

# The modules of the names, below `goflow`.
_HOMES = {
    "AccessLog": "web.access_log",
    "Command": "operators.command",
    "ConstantDelay": "core.retry",
    "Context": "operators.base",
    "ExponentialBackoff": "core.retry",
    "Get": "operators.http",
    "Goflow": "app",
    "GoflowError": "errors",
    "InvalidJob": "errors",
    "Job": "job",
    "Later": "errors",
    "MemoryStore": "stores.memory",
    "Outcome": "operators.outcome",
    "Post": "operators.http",
    "RunJob": "operators.subjobs",
    "Schedule": "core.schedule",
    "Skip": "errors",
    "SqliteStore": "stores.sqlite",
    "State": "core.states",
    "StoreError": "errors",
    "Task": "job",
    "TaskFailed": "errors",
    "Template": "templates.template",
    "TriggerRule": "core.states",
    "WaitFor": "operators.waits",
    "WaitForFile": "operators.waits",
    "WaitForJob": "operators.waits",
    "WaitForUrl": "operators.waits",
    "WaitUntil": "operators.waits",
    "zipped": "job",
}

if not TYPE_CHECKING:  # type checkers would take any name for one of goflow's

    def __getattr__(name):
        from importlib import import_module

        if (home := _HOMES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
        return found

    def __dir__():
        return sorted({*globals(), *__all__})
