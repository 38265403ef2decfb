"""The executors of an engine, and the choice between them."""

from collections.abc import Callable
from concurrent import futures

from goflow.engine.executors.base import Executor
from goflow.engine.executors.loop import AskingExecutor, LoopExecutor
from goflow.engine.executors.process import ProcessExecutor
from goflow.engine.executors.thread import ThreadExecutor
from goflow.engine.threads import Threads
from goflow.job import Isolation, Task
from goflow.operators.base import Asking, Executions

Choose = Callable[[Task], Executor | None]


class Executors:
    """One executor of each kind. `pool` runs the threads, and `threads` makes further ones;
    `executions` answers operators that ask. `choose` returns another executor for a task, or None.
    Created on the event loop."""

    def __init__(
        self,
        pool: futures.Executor,
        executions: Executions,
        threads: Threads,
        choose: Choose = lambda task: None,
    ) -> None:
        self._choose = choose
        self._threads = threads
        self._loop = LoopExecutor()
        self._thread = ThreadExecutor(pool)
        self._process = ProcessExecutor()
        self._asking = AskingExecutor(executions)

    def here(self, *, is_async: bool) -> Executor:
        """The executor of code that runs in the server's process."""
        return self._loop if is_async else self._thread

    def of_stream(self, task: Task) -> Executor:
        """The executor of a generator that may wait for the tasks mapped over it. It gets a thread
        of its own then, since as many may wait as there are threads for all tasks."""
        executor = self.of(task)
        if executor is not self._thread:
            return executor
        return ThreadExecutor(self._threads.operators(1), once=True)

    def of(self, task: Task) -> Executor:
        """The executor of a task: the chosen one, a process if the task requires one, else by its
        `run`."""
        if (chosen := self._choose(task)) is not None:
            return chosen
        if task.isolation is Isolation.PROCESS:
            return self._process
        if not task.call.is_async:
            return self._thread
        return self._asking if isinstance(task.operator, Asking) else self._loop
