"""Hooks run when all tasks have ended, and know how it went.

goflow run examples/flow/hooks.py --param fail=true --logs
"""

from goflow import Job, Outcome

job = Job(
    "backup", params={"fail": False}, description="Hooks on success, on failure and in any case"
)


def warn(outcome: Outcome) -> None:
    print(f"tried again after: {outcome.errors['copy'].splitlines()[0]}")


@job.task(retries=1, on_retry=warn)
def copy(fail: bool) -> int:
    if fail:
        raise OSError("the disk is full")
    return 42


@job.on_success
def tell_all_is_well() -> None:
    print("all is well")


@job.on_failure(retries=3)
def tell_the_team(outcome: Outcome) -> None:
    print(f"{outcome.job} {outcome.state}: {', '.join(outcome.failed)}")


@job.on_finish
def tidy() -> None:
    print("tidied up")
