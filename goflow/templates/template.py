"""The class `Template`, which works without Jinja2 until it is checked or rendered."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from goflow import checks
from goflow.checks import defining
from goflow.errors import InvalidJob, TaskFailed
from goflow.shown import tame
from goflow.templates.mistake import Mistake

if TYPE_CHECKING:
    from goflow.templates.compiled import Compiled

TEXT_LIMIT = 256 * 1024  # characters
REPR_LIMIT = 300  # characters


@dataclass(frozen=True, repr=False)
class Template:
    """Text with values that are filled in just before each attempt, by Jinja2.

    Operators take one wherever they take text: `Command` for its program, arguments, environment
    and folder, `Get` and `Post` for URL, headers, params, body and JSON. A plain str is never a
    template.

    A template knows the names `params`, `results` (of the tasks directly upstream; None for one
    that was skipped), `scheduled_at`, `submitted_at`, `interval_start`, `interval_end`,
    `execution_id`, `attempt`, `job` and `task`; in a mapped task also `item` and `index`, and in
    a hook `outcome`, with the fields of `goflow.Outcome`.
    `x.y` is the item `y` of the dict `x`. A value that
    does not exist fails the attempt, unless the template asks `is defined` or gives a `default`.

    It is checked when its task is added to a job. It renders at most 1 MiB of text, and fails the
    attempt if it loops too much.

    Args:
        text: Template in Jinja2's syntax, up to 262,144 characters. Macros, blocks and includes
            are not available.

    Raises:
        InvalidJob: `text` is not a str, or is too long. Mistakes in it are found when the task is
            added to a job, whose name the message then has.

    Examples:
        >>> from goflow import Command, Job, Task, Template
        >>> job = Job("greet", params={"name": "Ada"})
        >>> task = job.add(Task("say", Command("echo", [Template("Hello, {{ params.name }}!")])))
        >>> job.run().tasks["say"].result
        'Hello, Ada!\\n'
    """

    text: str

    in_shell: ClassVar[bool] = False

    @defining("Template")
    def __post_init__(self) -> None:
        text = checks.text("Template: text", self.text)
        if len(text) > TEXT_LIMIT:
            raise InvalidJob(
                f"Template: text has {len(text):,} characters, more than {TEXT_LIMIT:,}"
            )
        object.__setattr__(self, "text", text)

    def __repr__(self) -> str:
        return f"Template({tame(repr(self.text), REPR_LIMIT)})"

    def render(self, context: Any) -> str:
        """The text, for an operator of your own that takes templates.

        Args:
            context: The `Context` of the attempt.

        Raises:
            TaskFailed: It could not be rendered. The message has the line and the reason.

        Examples:
            >>> from dataclasses import dataclass
            >>> from goflow import Context, Job, Task, Template
            >>> @dataclass(frozen=True)
            ... class Say:
            ...     text: Template
            ...
            ...     def run(self, context: Context) -> str:
            ...         return self.text.render(context)
            >>> job = Job("greet", tasks=[Task("say", Say(Template("I am {{ task }}")))])
            >>> job.run().tasks["say"].result
            'I am say'
        """
        from goflow.templates.compiled import values_of

        try:
            text, _ = self.compiled().render(values_of(context))
        except Mistake as mistake:
            raise TaskFailed(f"template, line {mistake.line}: {mistake.message}") from None
        rendered: str = text
        return rendered

    def compiled(self) -> "Compiled":
        """Jinja2 is imported on first use, since most jobs have no templates. Raises `Mistake`."""
        from goflow.templates.compiled import compiled

        return compiled(self.text, self.in_shell)


@dataclass(frozen=True, repr=False)
class ShellTemplate(Template):
    """A template of shell text, whose values are quoted for the places where they stand."""

    in_shell: ClassVar[bool] = True
