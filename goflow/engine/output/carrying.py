"""Threads that a task starts belong to the task: their output goes to its log.

A thread gets its task when it starts; a thread of a pool gets it with each piece of work, since it
works for many tasks. No other context variable is carried over.
"""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from functools import partial
from typing import Any

from goflow.engine.current import current_log
from goflow.operators.base import Log

POOL = "multiprocessing.pool"  # seldom used, and slow to import
POOL_METHODS = ("apply_async", "_map_async", "imap", "imap_unordered")

_pools: list[type] = []  # the patched classes


def carry() -> Callable[[], None]:
    """Patch the start of threads. Returns the undo function."""
    plain_start = threading.Thread.start
    plain_submit = ThreadPoolExecutor.submit

    def start(thread: Any) -> None:
        log = current_log.get()
        if log is None:
            return plain_start(thread)
        # All of the thread, so that a traceback at its end is in the log, too.
        thread._bootstrap = partial(_context_of(log).run, thread._bootstrap)
        if getattr(thread, "_context", log) is None and not _inherits():  # Python 3.14
            thread._context = _context_of(log)
        try:
            plain_start(thread)
        finally:
            thread.__dict__.pop("_bootstrap", None)

    def submit(
        executor: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> "Future[Any]":
        return plain_submit(executor, _belonging(fn), *args, **kwargs)

    threading.Thread.start = start  # type: ignore[method-assign, assignment]
    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign, assignment]

    def undo() -> None:
        # A later patch by other code stays; ours below it passes everything on.
        if threading.Thread.start is start:
            threading.Thread.start = plain_start  # type: ignore[method-assign]
        if ThreadPoolExecutor.submit is submit:
            ThreadPoolExecutor.submit = plain_submit  # type: ignore[method-assign]
        while _pools:
            pool = _pools.pop()
            for name in POOL_METHODS:
                delattr(pool, name)

    return undo


def carry_into_pools() -> None:
    """The same for `multiprocessing.pool.ThreadPool`, once it has been imported."""
    if (module := sys.modules.get(POOL)) is None:
        return
    pool = getattr(module, "ThreadPool", None)  # None while it is being imported
    if pool is None or pool in _pools:
        return
    _pools.append(pool)
    for name in POOL_METHODS:
        setattr(pool, name, _carrying(getattr(pool, name)))


def _carrying(method: Callable[..., Any]) -> Callable[..., Any]:
    def carrying(pool: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return method(pool, _belonging(func), *args, **kwargs)

    return carrying


def _belonging(work: Callable[..., Any]) -> Callable[..., Any]:
    """The work, done for the task that submits it."""
    return partial(_work_for, current_log.get(), work)


def _work_for(log: Log | None, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    token = current_log.set(log)
    try:
        return work(*args, **kwargs)
    finally:
        current_log.reset(token)


def _context_of(log: Log) -> Context:
    context = Context()
    context.run(current_log.set, log)
    return context


def _inherits() -> bool:
    return bool(getattr(sys.flags, "thread_inherit_context", False))
