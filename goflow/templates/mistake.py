"""A mistake in a template, with its line."""


class Mistake(Exception):
    """A template is invalid, or could not be rendered. `line` is in the template, from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message
