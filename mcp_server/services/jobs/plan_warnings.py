"""Warnings of a dry run: findings of its checks, and checks that it skipped."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from flows.core.configs.clouds import kind_of
from flows.core.configs.plan import JobPlan
from flows.core.findings import Finding, errors_of, first_findings, warnings_of
from flows.core.models import JobRequest

_SHOWN: Final = 5
_OF_THE_WORKER: Final = "access to models and data on the hub, keys of services"
_ASKS: Final = (
    "A dry run does not ask the worker; pre_flight_check (`oumi-flows check`) does. A launch "
    "checks it before the job starts, and a job with errors fails there"
)


class Checked(Protocol):
    """A job whose files were checked."""

    @property
    def request(self) -> JobRequest:
        """The request of the job."""
        ...

    @property
    def plan(self) -> JobPlan:
        """The plan of the job."""
        ...

    @property
    def findings(self) -> list[Finding]:
        """The findings in the job's files."""
        ...


def found_in(job: Checked, *, part: str = "") -> list[str]:
    """List the first few findings of a job's files, worst first, and the number of others.

    Args:
        job: The job.
        part: Which part of a pipeline or a sweep it is.
    """
    findings = [*errors_of(job.findings), *warnings_of(job.findings)]
    prefix = f"{part}: " if part else ""
    shown = [f"{prefix}{finding.text}" for finding in first_findings(findings)[:_SHOWN]]
    more = len(findings) - len(shown)
    return [*shown, *([f"{prefix}{more} more: see pre_flight_check."] if more else [])]


def warnings_of_plan(jobs: Mapping[str, Checked]) -> list[str]:
    """List the warnings of a dry run of jobs, by the name of each part; empty for one job."""
    found = [text for part, job in jobs.items() for text in found_in(job, part=part)]
    more = len(found) - 2 * _SHOWN
    cut = [f"{more} more: see pre_flight_check of each config."] if more > 0 else []
    return [*found[: 2 * _SHOWN], *cut, *_note_unchecked(list(jobs.values()))]


def _note_unchecked(jobs: Sequence[Checked]) -> list[str]:
    """List the checks that were skipped."""
    notes: list[str] = []
    if any(job.request.skip_preflight for job in jobs):
        notes.append(
            "skip_preflight is set: only keys and types were checked, and a launch checks no more. "
            "pre_flight_check (`oumi-flows check`) looks at the rest."
        )
    asking = [job for job in jobs if not job.request.skip_preflight]
    clouds = sorted({job.plan.cloud for job in asking})
    notes += [f"Not checked yet: {_of(cloud)}. {_ASKS}." for cloud in clouds]
    return notes


def _of(cloud: str) -> str:
    """Name the checks that only the worker, or the cloud itself, can make."""
    return f"{kind_of(cloud).unchecked.format(cloud=cloud)}, {_OF_THE_WORKER}"
