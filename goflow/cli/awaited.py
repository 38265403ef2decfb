"""The things that tasks wait for, and the jobs that they run, in words."""

from datetime import timedelta
from os import fspath
from urllib.parse import urlsplit

from goflow import RunJob, Template, WaitFor, WaitForFile, WaitForJob, WaitForUrl, WaitUntil
from goflow.cli.terminal import duration


def waits_for(operator: object) -> str | None:
    """The thing that an operator waits for; None if it does not wait."""
    match operator:
        case WaitFor():
            return getattr(operator.check, "__name__", None) or type(operator.check).__name__
        case WaitForFile():
            path = operator.path
            return f"file {path.text if isinstance(path, Template) else fspath(path)}"
        case WaitForUrl():
            return _without_password(operator.url)
        case WaitForJob():
            return f"job {operator.job}"
        case WaitUntil():
            when = operator.when
            return f"{duration(when)} after it is due" if isinstance(when, timedelta) else str(when)
    return None


def runs_job(operator: object) -> str | None:
    """The job that an operator runs; None if it runs none."""
    return operator.job if isinstance(operator, RunJob) else None


def _without_password(url: str | Template) -> str:
    """A URL up to its query, without user and password."""
    if isinstance(url, Template):
        return "a URL"
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
