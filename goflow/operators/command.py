"""Runs a program in its own process group.

The rule that must not be broken: when `run` returns or raises, no process of the program's group is
left.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from goflow import checks
from goflow.checks import defining
from goflow.errors import InvalidJob, Skip, TaskFailed
from goflow.operators import orphans
from goflow.operators.base import Confined, Context
from goflow.operators.deadline import Deadline, real_work
from goflow.operators.process_group import uninterrupted
from goflow.operators.process_tag import tagged
from goflow.operators.program import RESULT_LIMIT, Program
from goflow.templates import fields
from goflow.templates.template import ShellTemplate, Template

_TEXT = {str}


@dataclass(frozen=True)
class Command(Confined):
    """Runs a program without a shell.

    Standard output and standard error go to the task's log as they come, decoded as UTF-8 with
    invalid bytes replaced. Standard input is empty. The result is standard output as text,
    including the final newline; of more than 1 MiB the head and the tail, with a mark between
    them. A non-zero exit code fails the attempt with the code and the end of standard error.

    The program gets its own process group. On a timeout, a cancel or a stop, and when the program
    exits but leaves processes of its group running, the group gets SIGTERM, and SIGKILL
    5 seconds later.

    The program, its arguments, the values of `env` and the folder may be a `Template`. The log
    begins with what they were rendered to.

    Args:
        cmd: Program on PATH, or a path to one.
        args: Arguments, passed on unchanged.
        env: Variables added to the server's environment.
        cwd: Folder to run in; the server's by default.
        timeout: Seconds until the program is ended and the attempt fails; None for no limit.
        retry_exit_codes: Exit codes after which a retry may help; another one fails the task
            without further retries. None for all. A program that was ended by a signal counts as
            128 plus the signal's number.
        skip_exit_code: Exit code that skips the task; None for none.

    Raises:
        InvalidJob: An argument is invalid on every machine, such as an empty `cmd`.

    Examples:
        >>> from goflow import Command, Job, Task
        >>> job = Job("list", tasks=[Task("greet", Command("echo", ["Hello"], timeout=10))])
        >>> job.run().tasks["greet"].result
        'Hello\\n'
    """

    cmd: str | Template
    args: Sequence[str | Template] = ()
    env: Mapping[str, str | Template] | None = field(
        default=None, kw_only=True, repr=False, hash=False
    )
    cwd: str | os.PathLike[str] | Template | None = field(default=None, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    retry_exit_codes: Collection[int] | None = field(default=None, kw_only=True, repr=False)
    skip_exit_code: int | None = field(default=None, kw_only=True, repr=False)
    _has_templates: bool = field(default=False, init=False, repr=False, compare=False)

    @defining("Command")
    def __post_init__(self) -> None:
        cmd = _text("Command: cmd", self.cmd)
        if isinstance(cmd, str) and not cmd.strip():
            raise InvalidJob(f"Command: cmd must name a program, not {self.cmd!r}")
        where = f"Command({self.cmd!r})"
        if isinstance(self.args, str | bytes) or not isinstance(self.args, Sequence):
            raise InvalidJob(
                f"{where}: args must be a list of str, not {self.args!r}; "
                "for a line of shell use Command.shell"
            )
        args = tuple(_text(f"{where}: args[{i}]", arg) for i, arg in enumerate(self.args))
        object.__setattr__(self, "args", args)
        if self.env is not None:
            env = checks.mapping(f"{where}: env", self.env)
            for name, value in env.items():
                checks.os_text(f"{where}: env name", name)
                _text(f"{where}: env[{name!r}]", value)
                if not name or "=" in name:
                    raise InvalidJob(f"{where}: {name!r} cannot be the name of a variable")
            object.__setattr__(self, "env", env)
        if self.cwd is not None and not isinstance(self.cwd, Template):
            if not isinstance(self.cwd, str | os.PathLike):
                raise InvalidJob(f"{where}: cwd must be a path, not {self.cwd!r}")
            checks.os_text(f"{where}: cwd", os.fspath(self.cwd))
        if self.timeout is not None:
            checks.seconds(f"{where}: timeout", self.timeout)
        if self.retry_exit_codes is not None or self.skip_exit_code is not None:
            self._check_codes(where)
        # Checked texts are exactly of type str. Comparing types is fast, and jobs may be large.
        has_templates = not _TEXT.issuperset(map(type, (cmd, *args)))
        if has_templates or self.env or self.cwd is not None:
            has_templates = fields.has_templates(cmd, args, self.env, self.cwd)
        object.__setattr__(self, "_has_templates", has_templates)

    def _check_codes(self, where: str) -> None:
        codes = self.retry_exit_codes
        if codes is not None:
            subject = f"{where}: retry_exit_codes"
            given = checks.items(subject, "exit codes", codes)
            kept = tuple(checks.count(subject, code, 1, 255) for code in given)
            object.__setattr__(self, "retry_exit_codes", kept)
        if self.skip_exit_code is not None:
            skip = checks.count(f"{where}: skip_exit_code", self.skip_exit_code, 1, 255)
            if codes is not None and skip in codes:
                raise InvalidJob(f"{where}: exit code {skip} can either skip or be retried")

    @classmethod
    def shell(
        cls,
        script: str | Template,
        *,
        env: Mapping[str, str | Template] | None = None,
        cwd: str | os.PathLike[str] | Template | None = None,
        timeout: float | None = None,
        retry_exit_codes: Collection[int] | None = None,
        skip_exit_code: int | None = None,
    ) -> "Command":
        """Runs a script in /bin/sh.

        Never format values from outside into the script. Pass them in `env`, or let the script be
        a `Template`, which quotes each value for the place where it stands: by itself, in `'…'` or
        in `"…"`. `{{ value | raw }}` inserts one without quotes. Places where no quotes would
        help, such as here-documents, are refused when the task is added to a job.

        Args:
            script: Shell script.
            env: Variables added to the server's environment.
            cwd: Folder to run in; the server's by default.
            timeout: Seconds until the script is ended and the attempt fails; None for no limit.
            retry_exit_codes: Exit codes after which a retry may help; None for all.
            skip_exit_code: Exit code that skips the task; None for none.

        Raises:
            InvalidJob: `script` is empty, or another argument is invalid.

        Examples:
            >>> from goflow import Command
            >>> Command.shell("df -P / | tail -1", timeout=10).cmd
            '/bin/sh'
        """
        if isinstance(script, Template):
            script = ShellTemplate(script.text)
        elif not checks.os_text("Command.shell: script", script).strip():
            raise InvalidJob(f"Command.shell: there is nothing to run in {script!r}")
        return cls(
            "/bin/sh",
            ("-c", script),
            env=env,
            cwd=cwd,
            timeout=timeout,
            retry_exit_codes=retry_exit_codes,
            skip_exit_code=skip_exit_code,
        )

    async def run(self, context: Context) -> str:
        if self._has_templates:
            command, texts = await fields.rendered(self, context)
            fields.log(context.log, texts)
            return await command.run(context)
        program = Program(
            [str(self.cmd), *map(str, self.args)],
            env=tagged(context.process_tag, cast("Mapping[str, str] | None", self.env)),
            cwd=None if self.cwd is None else os.fspath(cast("str", self.cwd)),
            log=context.log,
        )
        try:
            try:
                async with Deadline(self.timeout):
                    with real_work(program.has_exited):
                        await program.ended
            finally:
                if program.group.alive():
                    await uninterrupted(program.group.end(context.log.warning))
        except TimeoutError:
            await uninterrupted(orphans.end_tagged(context.process_tag, context.log.warning))
            raise TaskFailed(f"timed out after {self.timeout:g} s") from None
        finally:
            program.close()
            if context.meter is not None:
                context.meter.used(*program.cost)
        if (failure := program.failure()) is not None:
            code = program.exit_code
            if code is not None and code == self.skip_exit_code:
                raise Skip(f"exit code {code}")
            codes = self.retry_exit_codes
            raise TaskFailed(failure, final=codes is not None and code not in codes)
        return program.stdout.kept(RESULT_LIMIT)


def _text(subject: str, value: object) -> str | Template:
    """A text for the operating system, or a template of one. Raises `InvalidJob`."""
    return value if isinstance(value, Template) else checks.os_text(subject, value)
