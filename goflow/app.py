"""Goflow: the user's entry point. It combines the engine and the web server, and runs them."""

import asyncio
import contextlib
import gc
import ipaddress
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from goflow import checks, zones
from goflow.checks import defining
from goflow.engine.attempts.dependencies import Limits
from goflow.engine.attempts.under_way import CLEANUP
from goflow.engine.engine import Engine
from goflow.engine.idempotency import Submission
from goflow.engine.metrics import Metrics
from goflow.engine.options import Options
from goflow.engine.process import leaving, loops
from goflow.engine.process.console import console, last_resort
from goflow.engine.retention import Keep
from goflow.errors import GoflowError, InvalidJob, Stopping, StoreError
from goflow.job import Job
from goflow.job.source import Definition
from goflow.loading import is_loading
from goflow.operators import open_files
from goflow.shown import reason, shown
from goflow.stores.base import Store
from goflow.stores.registry import find_store
from goflow.web.policy import OWN_POLICY, check_policy
from goflow.web.target import origin_form

DASHBOARD = Path(__file__).parent / "web" / "static"
ADDRESS = "127.0.0.1:8181"
RESULT_LIMIT = 512 * 1024 * 1024  # bytes; SQLite refuses rows of twice that size
STOP_SLACK = 10.0  # seconds that a stop may take in addition to the limits of its parts


class Goflow:
    """A scheduler with a live dashboard and an HTTP API. An ASGI application.

    Args:
        store: None for the SQLite file `goflow.db` in the working directory; a path or a URL
            `sqlite:///path` for another file; `MemoryStore()` to keep nothing.
        ui_path: Folder of the dashboard, goflow's own by default; None for the API alone.
        show_examples: Register the two example jobs of Go's goflow.
        with_seconds: Allow cron expressions with six fields, the seconds first.
        ui_policy: Content-Security-Policy of a dashboard folder of your own. The default allows
            scripts and styles in its pages, and nothing from other origins.
        allowed_hosts: Host names to serve besides localhost and IP addresses; "*" for all.
        trusted_proxies: IP addresses and networks of proxies whose X-Forwarded-For, -Proto and
            -Host headers are used. Those of other clients are ignored.
        max_connections: Connections open at once, and at most half of the files that the process
            may open. For `run` and `serve`.
        max_connections_per_address: Connections open from one IP address; None for half of
            `max_connections`. Does not apply to loopback and trusted proxies.
        max_running: Attempts that run at once.
        max_unfinished: Executions that are unfinished at once; the server refuses further submits.
            A tenth, at least one, is reserved for schedules while one is on.
        pools: Names of pools and the number of tasks of each that run at once; see `Task(pool=)`
            and `set_pool`.
        stop_timeout: Seconds that running attempts may take to end when the server stops.
        keep_days: Days after which finished executions and ticks are deleted; None for never.
        keep_executions: Newest executions that are kept; None for all.
        keep_per_job: Newest executions of each job that are kept; None for all.
        max_result: Bytes of a task's result as JSON, at most 512 MiB. A larger result fails the
            attempt.
        max_results: Bytes of all results of an execution together.
        artifacts: Folder for results that are no JSON and for files of tasks, or a URL
            `s3://bucket/prefix`. None for a folder beside the store.
        max_artifact: Bytes of one of them. A larger one fails the attempt.
        max_log: Characters that are kept of an attempt's log: its head and its tail.
        max_body: Bytes of a request body.
        show_source: Whether the API and the dashboard show the source code of jobs.

    Raises:
        ValueError: An option is invalid. The message names it.

    Examples:
        >>> from goflow import Command, Goflow, Job, MemoryStore, Task
        >>> gf = Goflow(MemoryStore(), max_running=16, pools={"db": 2})
        >>> job = gf.add_job(Job("hello", tasks=[Task("say", Command("echo", ["hello"]))]))
        >>> [job.name for job in gf.jobs]
        ['hello']
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str] | None = None,
        ui_path: str | os.PathLike[str] | None = DASHBOARD,
        show_examples: bool = False,
        with_seconds: bool = False,
        *,
        ui_policy: str | None = None,
        allowed_hosts: Sequence[str] = (),
        trusted_proxies: Sequence[str] = (),
        max_connections: int = 2000,
        max_connections_per_address: int | None = None,
        max_running: int = 128,
        max_unfinished: int = 10_000,
        pools: Mapping[str, int] | None = None,
        stop_timeout: float = 5.0,
        keep_days: float | None = 90,
        keep_executions: int | None = 1_000_000,
        keep_per_job: int | None = None,
        max_result: int = 1024 * 1024,
        max_results: int = 1024 * 1024 * 1024,
        artifacts: str | os.PathLike[str] | None = None,
        max_artifact: int = 1024 * 1024 * 1024,
        max_log: int = 16 * 1024 * 1024,
        max_body: int = 1024 * 1024,
        show_source: bool = True,
    ) -> None:
        limits = Limits(
            result=_size("max_result", max_result, RESULT_LIMIT),
            log=_size("max_log", max_log),
            results=_size("max_results", max_results),
            artifact=_size("max_artifact", max_artifact),
        )
        options = Options(
            with_seconds=with_seconds,
            max_running=max_running,
            max_unfinished=max_unfinished,
            pools=_check_pools(pools),
            stop_timeout=stop_timeout,
            limits=limits,
            artifacts=None if artifacts is None else os.fspath(artifacts),
            keep=Keep(days=keep_days, executions=keep_executions, per_job=keep_per_job),
        )
        self._ui = None if ui_path is None else Path(ui_path)
        if self._ui is not None and self._ui != DASHBOARD and not self._ui.is_dir():
            raise ValueError(f"ui_path {str(self._ui)!r} is not a folder")
        own = self._ui not in (None, DASHBOARD)
        if ui_policy is not None and not own:
            raise ValueError("ui_policy is for a folder of your own, which ui_path must name")
        self._ui_policy = None
        if own:
            self._ui_policy = OWN_POLICY if ui_policy is None else check_policy(ui_policy)
        self._allowed_hosts = _check_hosts(allowed_hosts)
        self._trusted_proxies = _check_proxies(trusted_proxies)
        self._max_connections = _size("max_connections", max_connections)
        self._max_each = max_connections_per_address
        if self._max_each is not None:
            _size("max_connections_per_address", self._max_each)
        self._max_body = _size("max_body", max_body)
        self._show_source = checks.flag("show_source", show_source, error=ValueError)
        self._middleware: list[tuple[Callable[..., Any], dict[str, Any]]] = []
        self._web: Any = None
        self._starting = asyncio.Lock()
        self._running = False
        self._address = _parse_address(None, None, None)
        self._closing = asyncio.Event()
        self.engine = Engine(find_store(store), options)
        if show_examples:
            from goflow.examples import complex_analytics, custom_operator

            self.add_job(complex_analytics)
            self.add_job(custom_operator)

    @property
    def jobs(self) -> list[Job]:
        """The registered jobs, in order."""
        return list(self.engine.registry.jobs.values())

    @defining("add_job")
    def add_job(self, job: Job | Callable[[], Job], *, replace: bool = False) -> Job:
        """Register a job and return it, before the start or while goflow runs.

        A replaced job keeps its history, its switch and, if the schedule is the same, the
        schedule's phase. Unfinished executions keep the definition they were created with. The
        limit `max_running` applies at once: a higher one starts waiting tasks, a lower one ends
        none. Replacing a job does not fire it.

        Args:
            job: A job, or a function that returns one.
            replace: Whether to replace a job of that name. By default that is an error.

        Raises:
            InvalidJob: The job is invalid, or its name is registered already.
        """
        made = job if isinstance(job, Job) or not callable(job) else _made_by(job)
        if not isinstance(made, Job):
            told = f"add_job takes a Job or a function that returns one, not {shown(made)}"
            raise InvalidJob(told)
        if made is not job:
            made.definition = Definition.of_function(job) or made.definition
        registered: Job = self._on_loop(
            lambda: self.engine.registry.register(made, replace=replace)
        )
        return registered

    def remove_job(self, name: str) -> None:
        """Remove a job, before the start or while goflow runs.

        Its schedule stops, and requests for it are refused as for an unknown job. Its unfinished
        executions continue with the definition that they have, and its history stays.

        Args:
            name: Name of the job.

        Raises:
            NotFound: No job of that name is registered.
        """
        self._on_loop(lambda: self.engine.registry.remove(name))

    def set_pool(self, name: str, size: int) -> None:
        """Add a pool or resize it, before the start or while goflow runs.

        A larger pool starts tasks that wait. A smaller one ends none: no more start until enough
        have ended. To resize the limit of a job, replace the job.

        Args:
            name: Name of the pool; see `Task(pool=)`.
            size: Tasks of the pool that run at once, at least 1.

        Raises:
            ValueError: `name` or `size` is invalid.

        Examples:
            >>> from goflow import Goflow, MemoryStore
            >>> gf = Goflow(MemoryStore(), pools={"db": 2})
            >>> gf.set_pool("db", 4)
        """
        self._on_loop(lambda: self.engine.registry.set_pool(name, size))

    def remove_pool(self, name: str) -> None:
        """Remove a pool, before the start or while goflow runs.

        It still limits the unfinished executions of removed and replaced jobs that use it.

        Args:
            name: Name of the pool.

        Raises:
            NotFound: There is no pool of that name.
            Conflict: A registered job uses the pool.
        """
        self._on_loop(lambda: self.engine.registry.remove_pool(name))

    def _on_loop(self, change: Callable[[], Any]) -> Any:
        """Call `change` on the event loop that serves goflow, from any thread."""
        if not self._running or not self._loop.is_running():
            return change()
        with contextlib.suppress(RuntimeError):  # this thread has no event loop
            if asyncio.get_running_loop() is self._loop:
                return change()

        async def call() -> Any:
            return change()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    async def submit(
        self, job: str, params: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> Submission:
        """Create an execution of a job, from the event loop that serves goflow.

        The execution is on disk when this returns.

        Args:
            job: Name of the job.
            params: Parameters of the execution; defaults fill in the rest.
            key: Idempotency key. A repeated submit with the same key, job and parameters returns
                the execution of the first one.

        Returns:
            The `id` of the execution, the time it was `submitted`, and whether this call `created`
            it.

        Raises:
            NotFound: No job of that name is registered.
            InvalidRequest: `params` are invalid.
            Conflict: `key` was used with other parameters, or the job's overlap policy refuses
                the execution.
            Unavailable: The server cannot accept the submit now.
        """
        if not self._running:
            raise Stopping("goflow has not started, so it accepts no submits yet")
        return await self.engine.submissions.submit(job, params, key=key)

    def use(self, middleware: Callable[..., Any], **options: Any) -> None:
        """Wrap the application in ASGI middleware. The first middleware is the outermost.

        Args:
            middleware: ASGI middleware class, called with the application and `options`.
            **options: Keyword arguments for the class.

        Raises:
            RuntimeError: The application has served a request already.
        """
        if self._web is not None:
            raise RuntimeError("middleware must be added before the first request")
        self._middleware.append((middleware, options))

    def configure(
        self,
        *,
        store: Store | str | os.PathLike[str] | None = None,
        allowed_hosts: Sequence[str] = (),
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        """Change options before the start, as `goflow serve` does for its command line.

        Args:
            store: Store to use instead.
            allowed_hosts: Host names to add.
            trusted_proxies: IP addresses and networks of proxies to add.

        Raises:
            ValueError: An option is invalid. The message names it.
            RuntimeError: The server has started already.
        """
        if self._running:
            raise RuntimeError(
                "the store, the hosts and the proxies must be chosen before the start"
            )
        if store is not None:
            engine = Engine(find_store(store), self.engine.options)
            for job in self.jobs:
                engine.registry.register(job)
            self.engine = engine
        self._allowed_hosts += _check_hosts(allowed_hosts)
        self._trusted_proxies += _check_proxies(trusted_proxies)

    # -- as an ASGI application ----------------------------------------------------

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            # A mounted application gets no lifespan events, so the first request starts the
            # engine, unless the outer application uses `lifespan`.
            if not self._running:
                try:
                    await self._start()
                except (StoreError, InvalidJob) as error:
                    await _refuse(send, error)
                    return
            if self._loop is not asyncio.get_running_loop():
                raise RuntimeError(
                    "goflow was started on another event loop, and what runs is there; "
                    "serve it on one loop (with a TestClient: `with TestClient(app) as client`)"
                )
            await self._web(origin_form(scope), receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Lifespan for an application that goflow is mounted in: `FastAPI(lifespan=gf.lifespan)`.

        Without it, schedules start with the first request to goflow.

        Args:
            app: The application; ignored.

        Raises:
            StoreError: The store cannot be opened.
        """
        await self._start()
        try:
            yield
        finally:
            await self._stop()

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        try:
            await self._start()
        except (StoreError, InvalidJob) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        async with self._starting:
            if self._running:
                return
            await self.engine.start()
            if (warning := zones.database().warning(self.engine.clock.now())) is not None:
                self.engine.health.notice(warning)
            self._loop = asyncio.get_running_loop()
            metrics = Metrics(self.engine)
            try:
                if self._web is None:
                    self._web = self._build(metrics)
            except BaseException:  # from the user's middleware; stop what has started
                await self.engine.stop()
                raise
            self.engine.lifetime.spawn(metrics.run(), "the metrics")
            self.engine.check_store()
            self._running = True

    async def _stop(self) -> None:
        self._closing.set()
        await self.engine.stop()

    def _build(self, metrics: Metrics) -> Any:
        from goflow.web.forwarded import Forwarded, parse_trusted
        from goflow.web.routes import build

        app: Any = build(
            self.engine,
            metrics,
            ui=self._ui,
            ui_policy=self._ui_policy,
            allowed_hosts=self._allowed_hosts,
            body_limit=self._max_body,
            shutdown=self._closing,
            show_source=self._show_source,
        )
        for middleware, options in reversed(self._middleware):
            app = middleware(app, **options)
        return Forwarded(app, parse_trusted(self._trusted_proxies))

    # -- as a program --------------------------------------------------------------

    def run(
        self,
        address: str | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        root_path: str = "",
    ) -> None:
        """Serve until SIGTERM or SIGINT, then exit. The last line of a program.

        Threads, processes and `atexit` handlers that tasks leave behind have 5 seconds to end;
        the process exits at once if an attempt did not end when it was stopped.

        Args:
            address: "host:port" or ":port".
            host: Address to listen on, 127.0.0.1 by default, which only this machine reaches.
            port: Port to listen on, 8181 by default; 0 for any free port.
            root_path: Path prefix under which a proxy serves goflow.

        Raises:
            SystemExit: The server cannot start, or has stopped.
            ValueError: The address is invalid.
        """
        if is_loading():
            self._address = _parse_address(address, host, port)
            return
        try:
            self.serve(address, host=host, port=port, root_path=root_path)
        except GoflowError as error:
            raise SystemExit(f"goflow: {error}") from None
        leaving.depart(0)

    def serve(
        self,
        address: str | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        root_path: str = "",
    ) -> None:
        """Serve until SIGTERM or SIGINT, then stop gracefully and return.

        Args:
            address: "host:port" or ":port". A program that `goflow serve` loaded may have passed
                one to `run`, which is the default; otherwise it is 127.0.0.1:8181.
            host: Address to listen on.
            port: Port to listen on; 0 for any free port.
            root_path: Path prefix under which a proxy serves goflow, whether the proxy strips it
                or not.

        Raises:
            ValueError: The address is invalid.
            StoreError: The store cannot be opened.
            CannotListen: The port is in use or not permitted.
        """
        from goflow.engine.process.process_one import stand_aside
        from goflow.web.prefix import parse_prefix
        from goflow.web.server import listen

        prefix = parse_prefix(root_path)
        if address is None:
            own_host, own_port = self._address
            where = own_host if host is None else host, own_port if port is None else port
            where = _parse_address(None, *where)
        else:
            where = _parse_address(address, host, port)
        stand_aside()
        listening = listen(*where)
        try:
            loops.run(self._serve(listening, prefix))
        finally:
            listening.close()

    async def _serve(self, listening: Any, prefix: str) -> None:
        from goflow.engine.process.signals import ended_by_signals
        from goflow.web.server import GRACE, serve

        limit = GRACE + self.engine.options.stop_timeout + CLEANUP + STOP_SLACK
        with last_resort(), ended_by_signals(lambda _: self._closing.set(), limit=limit):
            await self._start()
            # Jobs and modules stay, so the garbage collector need not visit them again.
            gc.freeze()
            try:
                host, port = listening.getsockname()[:2]
                shown = f"[{host}]" if ":" in host else host
                console.say(f"goflow serves http://{shown}:{port}")
                await serve(
                    self,
                    listening,
                    root_path=prefix,
                    closing=self._closing,
                    limits=self._connection_limits(),
                    notice=self.engine.health.notice,
                )
            finally:
                await self._stop()

    def _connection_limits(self) -> Any:
        """The limits on connections, which leave files for tasks."""
        from goflow.web.acceptor import ConnectionLimits
        from goflow.web.forwarded import parse_trusted

        files = open_files.raise_limit()
        total = self._max_connections if files is None else min(self._max_connections, files // 2)
        total = max(total, 1)
        # Streams stay open for hours, so they may not use all connections.
        self.engine.broadcast.most = max(total // 2, 1)
        each = self._max_each or max(total // 2, 1)
        return ConnectionLimits(total, each, parse_trusted(self._trusted_proxies))


def _made_by(function: Callable[[], object]) -> object:
    try:
        return function()
    except (GoflowError, KeyboardInterrupt):
        raise
    except BaseException as error:
        name = shown(getattr(function, "__name__", function))
        raise InvalidJob(f"the function {name} made no job: {reason(error)}") from error


def _check_proxies(proxies: object) -> tuple[str, ...]:
    checked = tuple(checks.texts("trusted_proxies", "addresses", proxies, error=ValueError))
    if checked:
        from goflow.web.forwarded import parse_trusted

        parse_trusted(checked)
    return checked


def _check_hosts(hosts: object) -> tuple[str, ...]:
    return tuple(checks.texts("allowed_hosts", "names", hosts, error=ValueError))


def _check_pools(pools: object) -> dict[str, int]:
    return checks.mapping("pools", pools, error=ValueError)


def _size(name: str, value: object, most: int | None = None) -> int:
    return checks.count(name, value, 1, most, error=ValueError)


def _parse_address(address: str | None, host: str | None, port: int | None) -> tuple[str, int]:
    """Host and port, with missing parts from `ADDRESS`."""
    text = ADDRESS if address is None else address
    matched = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*):(\d{1,5})", text, re.ASCII)
    if matched is None or int(matched[2]) > 65_535:
        raise ValueError(f"address must be host:port or :port, as {ADDRESS}; not {text!r}")
    found_host = host if host is not None else matched[1].strip("[]")
    found_port = port if port is not None else int(matched[2])
    if isinstance(found_port, bool) or not 0 <= found_port <= 65_535:
        raise ValueError(f"port must be 0 to 65535, not {found_port!r}")
    if ":" in found_host:
        ipaddress.IPv6Address(found_host)
    return found_host or "127.0.0.1", found_port


async def _refuse(send: Any, error: GoflowError) -> None:
    """The response while the engine cannot be started."""
    body = msgspec.json.encode({"error": {"code": error.code, "message": str(error)}})
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"5")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
