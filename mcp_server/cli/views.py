"""How results look to a person."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import datetime
from typing import Final, Protocol

from rich.text import Text

from flows.core.models import ClusterList, JobStatus, Usage
from flows.core.states import Health, JobState
from mcp_server.cli.output import Output
from mcp_server.cli.times import say_when, write_duration, write_instant
from mcp_server.engine import EngineFinding, EngineSeverity, EngineStatus
from mcp_server.over_ssh import how_to_open
from mcp_server.services.catalog import ConfigSearch
from mcp_server.services.jobs.results import JobList, JobRow, Submission
from mcp_server.services.jobs.status import step_words
from mcp_server.services.schedules.values import ScheduledJob, ScheduleList

STYLE_OF_STATE: Final[Mapping[JobState, str]] = {
    JobState.SCHEDULED: "blue",
    JobState.QUEUED: "blue",
    JobState.PENDING: "blue",
    JobState.LAUNCHING: "cyan",
    JobState.RUNNING: "cyan",
    JobState.RETRYING: "magenta",
    JobState.CANCELLING: "yellow",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "yellow",
    JobState.CRASHED: "red",
}

_STYLE_OF_PART: Final[Mapping[str, str]] = {
    state.value: style for state, style in STYLE_OF_STATE.items()
}
_STYLE_OF_SEVERITY: Final[Mapping[EngineSeverity, str]] = {
    EngineSeverity.OK: "green",
    EngineSeverity.WARNING: "yellow",
    EngineSeverity.ERROR: "bold red",
}
_SHORT_ID: Final = 8
_TIMED_ID: Final = 18
_VERSION_AT: Final = 14
_MIB: Final = 2**20


class Summed(Protocol):
    """A result with a line for people."""

    @property
    def summary(self) -> str:
        """The line."""
        ...


def show_summary(result: Summed, output: Output) -> None:
    """Show a result in one line."""
    output.line(result.summary)


def show_change(status: JobStatus, output: Output) -> None:
    """Show what became of a job in one line."""
    output.line(status.summary, style=STYLE_OF_STATE[status.state])


def show_plan(plan: Submission, output: Output) -> None:
    """Show what a dry run found."""
    output.line(plan.summary)
    show_warnings(plan.warnings, output)
    if plan.plan is None:
        return
    output.rows(
        [
            ("command", shlex.join(plan.plan.argv)),
            ("model", plan.model_name),
            *((name.replace("_", " "), path) for name, path in plan.plan.files.items()),
        ]
    )
    output.line("Job config:", style="bold")
    output.text(plan.plan.job_config.rstrip("\n"))


def show_warnings(warnings: Iterable[str], output: Output) -> None:
    """Show the warnings of a dry run or a submission."""
    for warning in warnings:
        output.note(warning, style="yellow")


def show_status(status: JobStatus, output: Output) -> None:
    """Show everything about a job."""
    output.line(status.summary, style=STYLE_OF_STATE[status.state])
    where = f"{status.cloud} / {status.cluster_name}" if status.cluster_name else status.cloud
    output.rows(
        [
            ("id", status.job_id),
            ("state", status.state),
            ("reason", status.termination_reason or ""),
            ("command", status.command),
            ("config", status.config_path),
            ("model", status.model_name),
            ("runs on", where),
            ("launcher id", status.launcher_job_id or ""),
            ("attempt", str(status.attempt)),
            ("created", _when(status.created_at)),
            ("started", _when(status.started_at)),
            ("ended", _when(status.ended_at)),
            ("duration", write_duration(status.duration_seconds)),
            ("health", "" if status.health is Health.UNKNOWN else status.health),
            ("used", _usage(status.usage)),
            ("budget", status.budget.words if status.budget else ""),
            ("cost", "" if status.cost is None else f"${status.cost:.2f} so far, estimated"),
            ("from job", status.from_job or ""),
            ("tags", ", ".join(status.tags)),
            ("note", status.note),
            ("output", status.output_dir),
            ("log", status.log_path or ""),
            ("Prefect UI", status.url or ""),
        ]
    )
    _show_parts(status, output)
    _show_error_tail(status, output)


def _usage(usage: Usage | None) -> str:
    """Peak memory, processor time, and what each GPU does."""
    if usage is None:
        return ""
    parts: list[str] = []
    if usage.ram_peak_bytes:
        parts.append(f"{usage.ram_peak_bytes / 1e9:.1f} GB of memory at most")
    if usage.cpu_seconds is not None:
        parts.append(f"{usage.cpu_seconds:.0f} s of processor time")
    for number, gpu in enumerate(usage.gpus):
        if gpu.utilization_percent is not None:
            parts.append(f"GPU {number} at {gpu.utilization_percent:.0f} %")
    return ", ".join(parts)


def show_end(status: JobStatus, output: Output) -> None:
    """Show how a watched job ended."""
    output.line(status.summary, style=STYLE_OF_STATE[status.state])
    output.rows(
        [
            ("duration", write_duration(status.duration_seconds)),
            ("output", status.output_dir if status.state is JobState.SUCCEEDED else ""),
            ("log", status.log_path or ""),
        ]
    )
    _show_parts(status, output)
    _show_error_tail(status, output)


def show_jobs(jobs: JobList, output: Output) -> None:
    """Show a page of jobs."""
    if jobs.jobs:
        say = _say_instant(output)
        optional: dict[str, Callable[[JobRow], str]] = {
            "STEP": lambda job: step_words(job.step, job.max_steps),
            "LOSS": lambda job: "" if job.loss is None else f"{job.loss:.4g}",
            "CREATED": lambda job: say(job.created_at),
            "DURATION": lambda job: write_duration(job.duration_seconds),
            "MODEL": lambda job: job.model_name,
            "CLOUD": lambda job: job.cloud,
            "USED": _used,
            "NOTE": _notes,
        }
        shown = {head: of for head, of in optional.items() if any(map(of, jobs.jobs))}
        output.table(
            ["ID", "STATE", "NAME", *shown],
            (
                [
                    Text(short),
                    Text(job.state, STYLE_OF_STATE[job.state]),
                    Text(job.name),
                    *(Text(of(job)) for of in shown.values()),
                ]
                for short, job in zip(
                    short_ids(job.job_id for job in jobs.jobs), jobs.jobs, strict=True
                )
            ),
            yielding=tuple(shown),
        )
    else:
        output.note(jobs.summary)
    if jobs.next_cursor:
        output.note(f"There are more: add --cursor {jobs.next_cursor}")


def short_ids(ids: Iterable[str]) -> list[str]:
    """Beginnings of ids, 8 characters or more, that tell them from each other and from other jobs.

    The ids of runs that Prefect plans itself, as for schedules, begin with the time at which it
    did, so they are shown with all of it (version 7; prefect 3.9).
    """
    whole = list(ids)
    return [_shorten(one, {other for other in whole if other != one}) for one in whole]


def _shorten(one: str, others: Set[str]) -> str:
    length = _TIMED_ID if one[_VERSION_AT:].startswith("7") else _SHORT_ID
    while length < len(one) and any(other.startswith(one[:length]) for other in others):
        length += 1
    return one[:length]


def _notes(job: JobRow) -> str:
    """Tags and note."""
    return " ".join([*(f"#{tag}" for tag in job.tags), job.note]).strip()


def _used(job: JobRow) -> str:
    """Peak memory and cost."""
    memory = f"{job.ram_peak_bytes / 1e9:.1f} GB" if job.ram_peak_bytes else ""
    cost = "" if job.cost is None else f"${job.cost:.2f}"
    return ", ".join(filter(None, (memory, cost)))


def show_configs(found: ConfigSearch, output: Output) -> None:
    """Show what a search of the catalogue found."""
    if found.configs:
        output.table(
            ["PATH", "TASK", "TECHNIQUE", "MODEL", "GPU"],
            (
                list(map(Text, (row.path, row.task, row.technique, row.model_name, row.gpu)))
                for row in found.configs
            ),
            yielding=("TASK", "TECHNIQUE", "MODEL", "GPU"),
        )
    output.note(found.summary)


def show_schedule(made: ScheduledJob, output: Output) -> None:
    """Show a schedule that was created, or that a dry run planned."""
    output.line(made.summary)
    output.rows(
        [
            ("id", made.schedule_id or ""),
            ("job", made.job_id or ""),
            ("overlap", made.overlap),
            ("next", ", ".join(write_instant(time) for time in made.next_runs)),
            ("Prefect UI", made.url or ""),
        ]
    )
    show_warnings(made.warnings, output)


def show_schedules(page: ScheduleList, output: Output) -> None:
    """Show a page of schedules."""
    if page.schedules:
        say = _say_instant(output)
        output.table(
            ["ID", "STATE", "NAME", "WHEN", "NEXT", "LAST"],
            (
                [
                    Text(short),
                    Text(row.state),
                    Text(row.name),
                    Text(row.when),
                    Text(say(row.next_runs[0]) if row.next_runs else ""),
                    Text(row.last_run.state, STYLE_OF_STATE[row.last_run.state])
                    if row.last_run
                    else Text(""),
                ]
                for short, row in zip(
                    short_ids(row.schedule_id for row in page.schedules),
                    page.schedules,
                    strict=True,
                )
            ),
            yielding=("WHEN", "NEXT", "LAST"),
        )
    else:
        output.note(page.summary)
    if page.next_cursor:
        output.note(f"There are more: add --cursor {page.next_cursor}")


def show_engine(status: EngineStatus, output: Output) -> None:
    """Show the state of the engine, and how to log in to the Prefect UI."""
    output.line(status.summary, style="bold red" if status.problem else "green")
    server, worker = status.server, status.worker
    output.rows(
        [
            ("server", _process("healthy" if server.healthy else "not healthy", server.pid)),
            ("address", status.api_url or ""),
            ("server log", server.log_path or ""),
            ("worker", _process(_worker_state(status), worker.pid)),
            ("worker name", worker.name),
            ("worker log", worker.log_path or "" if worker.pid else ""),
            ("memory", _memory([server.rss_bytes, worker.rss_bytes])),
            ("Prefect UI", status.ui_url or ""),
            ("SSH tunnel", how_to_open(status.ui_url)),
            ("UI log-in", f"the one line in {status.auth_path}" if status.auth_path else ""),
        ]
    )
    if status.problem:
        output.line(f"Problem: {status.problem}", style="red")
        output.line(f"What to do: {status.fix}")


def show_clusters(listed: ClusterList, output: Output) -> None:
    """Show a list of clusters, and the servers that did not answer."""
    if listed.clusters:
        output.table(
            ["CLOUD", "CLUSTER", "STATE", "JOBS", "UPTIME", "PER HOUR", "SO FAR"],
            [
                [
                    Text(cluster.cloud),
                    Text(cluster.cluster_name),
                    Text(cluster.state),
                    Text("?" if cluster.live_jobs is None else str(len(cluster.live_jobs))),
                    Text(write_duration(cluster.uptime_seconds)),
                    Text(_dollars(cluster.hourly_cost)),
                    Text(_dollars(cluster.cost_so_far)),
                ]
                for cluster in listed.clusters
            ],
        )
    else:
        output.note(listed.summary)
    for server, why in listed.unavailable.items():
        output.note(f"{server} did not answer: {why}")


def show_findings(findings: Iterable[EngineFinding], output: Output) -> None:
    """Show what the doctor found."""
    for finding in findings:
        output.line(
            f"{finding.severity.upper():<8} {finding.subject}: {finding.what}",
            style=_STYLE_OF_SEVERITY[finding.severity],
        )
        if finding.fix:
            output.line(f"         What to do: {finding.fix}")


def number(value: object) -> str:
    """Format a value for a table."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _show_parts(status: JobStatus, output: Output) -> None:
    if not status.parts:
        return
    has_values = any(part.value is not None for part in status.parts)
    output.table(
        ["ID", "STATE", "JOB", *(["VALUE"] if has_values else []), "NOTE"],
        (
            [
                Text(short),
                Text(part.state, _STYLE_OF_PART.get(part.state, "")),
                Text(part.name),
                *([Text("" if part.value is None else number(part.value))] if has_values else []),
                Text(part.note),
            ]
            for short, part in zip(
                short_ids(part.job_id or "" for part in status.parts), status.parts, strict=True
            )
        ),
        yielding=("NOTE",),
    )


def _show_error_tail(status: JobStatus, output: Output) -> None:
    if status.error_tail:
        output.line("Last lines of the log:", style="bold")
        output.text(status.error_tail)


def _worker_state(status: EngineStatus) -> str:
    worker = status.worker
    if not worker.alive:
        return "not running"
    if not worker.warm:
        return "loading Oumi"
    return "ready" if worker.online else "does not reach the server"


def _process(state: str, pid: int | None) -> str:
    return f"{state} (pid {pid})" if pid else state


def _memory(sizes: Iterable[int | None]) -> str:
    known = [size for size in sizes if size is not None]
    return f"{sum(known) // _MIB} MiB" if known else ""


def _dollars(amount: float | None) -> str:
    return "" if amount is None else f"${amount:,.2f}"


def _when(instant: datetime | None) -> str:
    return f"{write_instant(instant)} ({say_when(instant)})" if instant else ""


def _say_instant(output: Output) -> Callable[[datetime], str]:
    """A person reads how long ago; a file or a program the time itself."""
    return say_when if output.is_terminal else write_instant
