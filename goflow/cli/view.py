"""Views of a running execution in the terminal: a live tree, or a line per change.

A view gets the whole execution at each update and finds the changes itself. So it reports all of
them, even if several happened between two updates.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import click
import msgspec

from goflow.cli.terminal import duration, padded, width
from goflow.cli.tree import Branch, draw
from goflow.core.cost import Bar
from goflow.core.detail import AttemptDetail
from goflow.core.states import State
from goflow.core.summary import Waiting, WhySkipped
from goflow.engine.clock import Clock, SystemClock

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.text import Text

WIDEST_NAME = 60  # cells
BAR = 20  # cells of a progress bar
PACE = 5.0  # seconds between two lines about the progress of a task


class Seen(Protocol):
    """The part of a task that views show; `TaskDetail` and `FinishedTask` have it."""

    @property
    def name(self) -> str: ...
    @property
    def state(self) -> State: ...
    @property
    def error(self) -> str | None: ...
    @property
    def attempts(self) -> list[AttemptDetail]: ...
    @property
    def items(self) -> dict[str, int] | msgspec.UnsetType | None: ...
    @property
    def skip(self) -> WhySkipped | msgspec.UnsetType | None: ...
    @property
    def chosen(self) -> tuple[str, ...] | msgspec.UnsetType | None: ...


class View:
    """Shows nothing, for `--json`. The base class of the other views."""

    def __enter__(self) -> Self:
        return self

    def update(self, state: State, tasks: Sequence[Seen]) -> None:
        """Show the current state of the execution."""

    def abandon(self) -> None:
        """Restore the terminal when the process ends without `__exit__`."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


def choose_view(
    job: str,
    after: Mapping[str, Sequence[str]],
    *,
    silent: bool,
    local: bool,
    hooks: Sequence[str] = (),
) -> View:
    """The view for standard output. Hooks that are skipped, as most are, are not shown.

    `local`: the execution runs in this process, so its tasks stop when the view ends.
    """
    if silent:
        return View()
    if sys.stdout.isatty():
        from rich.console import Console

        # `file` is given because goflow replaces sys.stdout later, to capture prints of tasks.
        console = Console(file=sys.stdout, highlight=False)
        if not console.is_dumb_terminal:
            return Tree(job, after, console, local=local, hooks=hooks)
    return Lines(list(after), hooks)


def print_errors(tasks: Iterable[Seen]) -> None:
    """Print the error of each failed task."""
    for task in tasks:
        if task.state is State.FAILED:
            attempts = len(task.attempts)
            click.echo(f"\n{task.name} failed in attempt {attempts}:")
            for line in (task.error or "no error was recorded").rstrip("\n").split("\n"):
                click.echo(f"  {line}".rstrip())


# -- lines -------------------------------------------------------------------------


class Change(NamedTuple):
    """A task's new state; `at` is None if the time was not recorded. `note` has the items of a
    mapped task that has ended, or why a task was skipped."""

    task: str
    state: State
    at: datetime | None = None
    attempt: int | None = None
    took: timedelta | None = None
    note: str = ""


def _items(task: Seen) -> str:
    """The items of a mapped task or of a generator, in words; "" for another task, or while they
    are unknown."""
    if yielded := getattr(task, "yielded", None):
        return f"{yielded:,} {'item' if yielded == 1 else 'items'} yielded"
    if not task.items or not (total := task.items["total"]):
        return ""
    failed = task.items.get(State.FAILED, 0)
    words = f"{task.items.get(State.SUCCESSFUL, 0):,} of {total:,} items"
    return words + (f", {failed:,} failed" if failed else "")


def _note(task: Seen) -> str:
    """The items of a mapped task, the tasks that a branch chose, or why a task was skipped, in one
    line."""
    if task.skip:
        return " ".join(task.skip.why.split())
    if task.chosen is not None and task.chosen is not msgspec.UNSET:
        return f"chose {', '.join(task.chosen) or 'no task'}"
    return _items(task)


def _waiting(task: Seen) -> Waiting | None:
    """Why a running task waits without a slot, and until when; None if it does not."""
    waiting = getattr(task, "waiting", None)
    return waiting if task.state is State.RUNNING and isinstance(waiting, Waiting) else None


def _progress(task: Seen) -> Bar | None:
    """The progress that a running task has reported; None without any."""
    bar = getattr(task, "progress", None)
    return bar if task.state is State.RUNNING and isinstance(bar, Bar) else None


def _told(bar: Bar) -> str:
    """A progress in words: "450 of 1,200, 37 %, page 3"."""
    words = [f"{bar.done:,} done" if bar.total is None else f"{bar.done:,} of {bar.total:,}"]
    if bar.total:
        words.append(f"{int(100 * _share(bar))} %")
    return ", ".join([*words, bar.text] if bar.text else words)


def _share(bar: Bar) -> float:
    """The part that is done, from 0 to 1; 0 if the total is unknown."""
    return min(bar.done / bar.total, 1.0) if bar.total else 0.0


def _until_next_look(waiting: Waiting, now: datetime) -> timedelta:
    """The time until the next look. Looks for the same reason are no change, so a time that has
    passed is continued."""
    left, every = waiting.again - now, timedelta(seconds=waiting.every)
    return left if left >= timedelta(0) or not every else left % every


def _history(task: Seen) -> Iterator[Change]:
    state = State.NOTSTARTED
    for one in task.attempts:
        state = State.RUNNING
        yield Change(task.name, state, one.started, one.attempt)
        if one.finished is not None:
            state = one.state if one.retry_at is None else State.UPFORRETRY
            took = one.finished - one.started
            note = _note(task) if one is task.attempts[-1] else ""
            yield Change(task.name, state, one.finished, one.attempt, took, note)
    if task.state.finished and task.state is not state:
        yield Change(task.name, task.state, note=_note(task))


class Lines(View):
    """Prints a line per change: task, state, attempt, and duration of the attempt."""

    def __init__(
        self, names: Sequence[str], hooks: Sequence[str] = (), clock: Clock | None = None
    ) -> None:
        self._clock = clock or SystemClock()
        self._told: dict[str, tuple[float, Bar]] = {}  # the last progress, and when
        every = [*names, *hooks]
        self._cells = min(max(map(width, every), default=0), WIDEST_NAME)
        self._reported = dict.fromkeys(every, 0)
        self._hooks = frozenset(hooks)
        self._reasons: dict[str, str] = {}  # of tasks that wait

    def update(self, state: State, tasks: Sequence[Seen]) -> None:
        timed: list[tuple[datetime, Change]] = []
        untimed: list[Change] = []
        for task in tasks:
            if task.state is State.SKIPPED and task.name in self._hooks:
                continue
            new = list(_history(task))[self._reported[task.name] :]
            self._reported[task.name] += len(new)
            for change in new:
                if change.at is None:
                    untimed.append(change)
                else:
                    timed.append((change.at, change))
        timed.sort(key=lambda pair: pair[0])
        for change in [*(change for _, change in timed), *untimed]:
            click.echo(self._line(change))
        for task in tasks:
            waiting = _waiting(task)
            if waiting is None:
                self._reasons.pop(task.name, None)
            elif self._reasons.get(task.name) != waiting.why:
                self._reasons[task.name] = waiting.why
                name = padded(task.name, self._cells)
                every = duration(timedelta(seconds=waiting.every))
                click.echo(f"{name}  {'waiting':<10}  {waiting.why}; looks again in {every}")
            self._tell_progress(task)

    def _tell_progress(self, task: Seen) -> None:
        """Print the progress of a task, if it is another one and the last line is some time ago."""
        if (bar := _progress(task)) is None:
            self._told.pop(task.name, None)
            return
        now, told = self._clock.elapsed(), self._told.get(task.name)
        if told is None or (told[1] != bar and now - told[0] >= PACE):
            self._told[task.name] = now, bar
            click.echo(f"{padded(task.name, self._cells)}  {'progress':<10}  {_told(bar)}")

    def _line(self, change: Change) -> str:
        line = f"{padded(change.task, self._cells)}  {change.state:<10}"
        if change.attempt is not None:
            line += f"  attempt {change.attempt}"
        if change.took is not None:
            line += f"  {duration(change.took)}"
        if change.note:
            line += f"  {change.note}"
        return line.rstrip()


# -- the live tree -----------------------------------------------------------------

FRAMES_PER_SECOND = 10
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

LOOKS: dict[State, tuple[str, str]] = {
    State.NOTSTARTED: ("·", "dim"),
    State.RUNNING: ("", "cyan"),
    State.UPFORRETRY: ("↻", "yellow"),
    State.SKIPPED: ("-", "magenta"),
    State.FAILED: ("✘", "bold red"),
    State.SUCCESSFUL: ("✔", "green"),
    State.CANCELLED: ("■", "magenta"),
}

# Shown first if not all rows fit on the screen.
FOREMOST = (State.RUNNING, State.UPFORRETRY, State.FAILED)


class Tree(View):
    """Draws the job's tasks as a live tree."""

    def __init__(
        self,
        job: str,
        after: Mapping[str, Sequence[str]],
        console: "Console",
        *,
        local: bool,
        hooks: Sequence[str] = (),
        clock: Clock | None = None,
    ) -> None:
        from rich.live import Live

        self._job = job
        self._branches = draw(after)
        self._hooks = [Branch("", hook, ()) for hook in hooks]
        self._cells = min(
            max(
                width(branch.lines) + width(branch.task)
                for branch in [*self._branches, *self._hooks]
            ),
            WIDEST_NAME,
        )
        self._console = console
        self._local = local
        self._clock = clock or SystemClock()
        self._since = self._clock.now()
        self._state = State.NOTSTARTED
        self._tasks: dict[str, Seen] = {}
        self._last_frame = False
        self._stopped = False
        self._live = Live(
            console=console,
            get_renderable=self._frame,
            refresh_per_second=FRAMES_PER_SECOND,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def update(self, state: State, tasks: Sequence[Seen]) -> None:
        self._state, self._tasks = state, {task.name: task for task in tasks}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._last_frame, self._stopped = True, self._local and error is not None
        self._live.stop()

    def abandon(self) -> None:
        self._console.show_cursor(True)

    def _frame(self) -> "Group":
        from rich.console import Group
        from rich.text import Text

        now = self._clock.now()
        tasks = self._tasks
        shown, hidden = self._branches, 0
        room = self._console.height - 3
        if not self._last_frame and len(shown) > room:
            rank = {
                branch.task: (tasks[branch.task].state if tasks else State.NOTSTARTED)
                not in FOREMOST
                for branch in shown
            }
            chosen = {b.task for b in sorted(shown, key=lambda b: rank[b.task])[:room]}
            shown = [branch for branch in shown if branch.task in chosen]
            hidden = len(self._branches) - room
        rows = [self._header(now), *(self._row(branch, now) for branch in shown)]
        for hook in self._hooks:
            task = tasks.get(hook.task)
            if task is not None and task.state not in (State.NOTSTARTED, State.SKIPPED):
                rows.append(self._row(hook, now))
        if hidden:
            rows.append(Text(f"… and {hidden} more", style="dim"))
        return Group(*rows)

    def _header(self, now: datetime) -> "Text":
        from rich.text import Text

        ends = [self._tasks[one.task].state for one in self._branches if one.task in self._tasks]
        done = sum(state.finished for state in ends)
        state = "stopped" if self._stopped else str(self._state)
        _, style = LOOKS[self._state]
        return Text.assemble(
            (self._job, "bold"),
            "  ",
            (state, style),
            (f"  {done} of {len(self._branches)} tasks  {duration(now - self._since)}", "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )

    def _draw(self, row: "Text", bar: Bar) -> None:
        if bar.total:
            full = round(BAR * _share(bar))
            row.append("  ").append("━" * full, "cyan").append("─" * (BAR - full), "dim")
        row.append(f"  {_told(bar)}", "cyan")

    def _row(self, branch: Branch, now: datetime) -> "Text":
        from rich.text import Text

        task = self._tasks.get(branch.task)
        state = State.NOTSTARTED if task is None else task.state
        symbol, style = LOOKS[state]
        word = str(state)
        if state is State.RUNNING and self._stopped:
            symbol, style, word = "■", "magenta", "stopped"
        elif state is State.RUNNING:
            symbol = SPINNER[int(now.timestamp() * FRAMES_PER_SECOND) % len(SPINNER)]
        name = padded(branch.task, self._cells - width(branch.lines))
        row = Text(no_wrap=True, overflow="ellipsis")
        row.append(f"{branch.lines}", "dim").append(f"{symbol} ", style)
        row.append(f"{name}  ").append(f"{word:<10}", style)
        if task is not None and task.attempts:
            last = task.attempts[-1]
            row.append(f"  {duration((last.finished or now) - last.started)}")
            if state is State.UPFORRETRY and last.retry_at is not None:
                row.append(f"  retry in {duration(last.retry_at - now)}", "yellow")
            elif (waiting := _waiting(task)) is not None and not self._last_frame:
                left = duration(_until_next_look(waiting, now))
                row.append(f"  {waiting.why}; looks again in {left}", "yellow")
            elif len(task.attempts) > 1:
                row.append(f"  attempt {last.attempt}", "dim")
            if (bar := _progress(task)) is not None and not self._last_frame:
                self._draw(row, bar)
        if task is not None and (note := _note(task)):
            row.append(f"  {note}", "dim")
        return row
