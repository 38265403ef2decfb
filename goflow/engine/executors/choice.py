"""The executors of an engine, and the choice between them."""

from concurrent import futures

from goflow.engine.executors.base import Executor
from goflow.engine.executors.loop import LoopExecutor
from goflow.engine.executors.process import ProcessExecutor
from goflow.engine.executors.thread import ThreadExecutor
from goflow.job import Isolation, Task


class Executors:
    """One executor of each kind. `pool` runs the threads. Created on the event loop."""

    def __init__(self, pool: futures.Executor) -> None:
        self._loop = LoopExecutor()
        self._thread = ThreadExecutor(pool)
        self._process = ProcessExecutor()

    def of(self, task: Task) -> Executor:
        """The executor of a task: a process if the task requires one, else by its `run`."""
        if task.isolation is Isolation.PROCESS:
            return self._process
        return self._loop if task.call.is_async else self._thread
