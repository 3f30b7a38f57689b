"""Makes the status of a job from its flow run in Prefect."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError

from flows.core import names, prefect_states
from flows.core.budget.amounts import Limits
from flows.core.budget.whole import own_limits
from flows.core.divergence import DIVERGED
from flows.core.models import JobBudget, JobProgress, JobRequest, JobStatus, Usage
from flows.core.numbers import to_count, to_number
from flows.core.states import Health, JobState, TerminationReason
from flows.core.stopwatch import Instant
from mcp_server.prefect_api.models import Artifact, FlowRun
from mcp_server.services.jobs.results import JobRow

_MESSAGE_LIMIT: Final = 1000
_BY_HAND: Final = "It was set by hand to"
_ENDS_BY_HAND: Final = {
    JobState.SUCCEEDED: TerminationReason.COMPLETED,
    JobState.FAILED: TerminationReason.KILLED,
}
"""The reasons of jobs that oumi-flows ended because their run had got an end from outside."""
_OF_PREFECT: Final = ("Flow run encountered an exception", "Flow run infrastructure")
_LONG: Final = 120
"""Seconds from which a time is written as 0:02:00."""
_ROW_WORDS: Final = 100
_ROW_TAGS: Final = 5
_BEFORE_A_LAUNCH: Final = frozenset(
    {JobState.SCHEDULED, JobState.QUEUED, JobState.PENDING, JobState.RETRYING}
)
"""In these states nothing runs: reported progress belongs to an earlier attempt."""


def job_request(run: FlowRun) -> JobRequest | None:
    """Read the job's request; None if oumi-flows did not make the run."""
    try:
        return JobRequest.model_validate(run.parameters.get("request"))
    except ValidationError:
        return None


def job_status(
    run: FlowRun,
    artifact: Artifact | None,
    *,
    ui_url: str | None,
    now: datetime,
    error_tail: str = "",
    waits_for: str = "",
    silence: str = "",
) -> JobStatus:
    """Make the status of the job of `run`.

    Args:
        run: The flow run.
        artifact: The progress artifact its worker keeps; None: there is none yet.
        ui_url: Root of the Prefect UI.
        now: The time of this observation.
        error_tail: The last lines of a job that failed.
        waits_for: What keeps a due job waiting.
        silence: Why its machine cannot tell its state; empty: it can.
    """
    state = run.state.job_state
    if artifact is not None and not _is_of_attempt(artifact, run):
        artifact = None
    facts = artifact.metadata if artifact else {}
    watched = state in (JobState.LAUNCHING, JobState.RUNNING, JobState.CANCELLING)
    reachable = not (silence or (watched and facts.get("reachable") == "false"))
    reason, message = prefect_states.read_message(run.state.type, run.state.name, run.state.message)
    if not reachable:
        message = silence or facts.get("unreachable_reason") or message
        message = message or "The cluster did not answer"
    message = waits_for or message
    request, labels = job_request(run), run.labels
    progress = _progress(artifact, state)
    if is_set_by_hand(run):
        reason, message = _end_by_hand(run, progress)
    status = JobStatus(
        summary="",
        job_id=run.id,
        name=job_name(run, request),
        state=state,
        is_done=state.is_terminal,
        reachable=reachable,
        observed_at=(_instant(facts.get("observed_at")) if watched else None) or now,
        termination_reason=reason,
        message=message[:_MESSAGE_LIMIT],
        command=run.command or (request.command if request else ""),
        config_path=request.config_path if request else "",
        cloud=request.cloud if request else "",
        cluster_name=labels.cluster_name or (request.cluster_name if request else ""),
        launcher_job_id=labels.launcher_job_id,
        model_name=labels.model_name or "",
        output_dir=labels.output_dir or "",
        attempt=run.attempt,
        resumed_from_step=labels.resumed_from_step
        if labels.resumed_attempt == run.attempt
        else None,
        created_at=run.created,
        started_at=run.start_time,
        ended_at=run.end_time if state.is_terminal else None,
        duration_seconds=_duration(run, now),
        progress=progress,
        health=_health(facts),
        usage=_usage(facts),
        error_tail=error_tail,
        log_path=labels.log_path,
        processes_held_by=labels.processes_held_by,
        part_of=labels.part_of,
        from_job=labels.from_job,
        note=labels.note or "",
        tags=run.own_tags,
        cost=cost_of(run, now),
        budget=budget_of(run, request),
        url=run_url(ui_url, run.id),
    )
    return status.model_copy(update={"summary": summary_line(status)})


def is_set_by_hand(run: FlowRun) -> bool:
    """Whether a launched job ended because its run was set to a state from outside.

    oumi-flows begins the message of each end with its reason, and Prefect that of a flow's error
    with words of its own (prefect 3.9).
    """
    if run.state.job_state not in _ENDS_BY_HAND or run.labels.launched_attempt != run.attempt:
        return False
    message = run.state.message or ""
    head, _, _ = message.partition(": ")
    is_ours = head in TerminationReason.__members__.values()
    return not is_ours and not message.startswith(_OF_PREFECT)


def _end_by_hand(run: FlowRun, progress: JobProgress) -> tuple[TerminationReason, str]:
    """The reason and the words of such an end. Prefect does not record whose hand it was."""
    at = f" at step {step_words(progress.step, progress.max_steps)}" if progress.step else ""
    said = f": {run.state.message}" if run.state.message else ""
    words = f"{_BY_HAND} {run.state.name} in the Prefect UI or through its API{at}{said}"
    return _ENDS_BY_HAND[run.state.job_state], words


def _health(facts: Mapping[str, str]) -> Health:
    try:
        return Health(facts.get("health", Health.UNKNOWN))
    except ValueError:  # of a later version
        return Health.UNKNOWN


def _usage(facts: Mapping[str, str]) -> Usage | None:
    try:
        return Usage.model_validate_json(facts["usage"])
    except (KeyError, ValidationError):
        return None


def job_row(
    run: FlowRun,
    artifact: Artifact | None = None,
    *,
    now: datetime,
    cost: float | None = None,
) -> JobRow:
    """Make the row of the job of `run` in a list.

    Args:
        run: The flow run.
        artifact: Its progress artifact, which also has what it used.
        now: The time of this observation.
        cost: What the jobs of a pipeline or a sweep cost so far.
    """
    usage = _usage(artifact.metadata) if artifact else None
    request = job_request(run)
    budget = budget_of(run, request)
    state = run.state.job_state
    progress = progress_of(run, artifact)
    return JobRow(
        job_id=run.id,
        name=job_name(run, request),
        state=state,
        command=run.command or (request.command if request else ""),
        cloud=request.cloud if request else "",
        model_name=(run.labels.model_name or "")[-_ROW_WORDS:],
        created_at=run.created,
        ended_at=run.end_time if state.is_terminal else None,
        duration_seconds=_duration(run, now),
        step=progress.step,
        max_steps=progress.max_steps,
        loss=progress.loss,
        cost=cost_of(run, now) if cost is None else cost,
        budget=budget.words if budget else "",
        ram_peak_bytes=usage.ram_peak_bytes if usage else None,
        note=_shorten(run.labels.note or ""),
        tags=run.own_tags[:_ROW_TAGS],
    )


def _shorten(text: str) -> str:
    return text if len(text) <= _ROW_WORDS else f"{text[: _ROW_WORDS - 3]}..."


def cost_of(run: FlowRun, now: datetime) -> float | None:
    """What the attempts of a job cost so far, in US dollars; None: no price is known."""
    price, seconds = run.labels.hourly_price, _duration(run, now)
    return None if price is None or seconds is None else round(price * seconds / 3600, 4)


def budget_of(run: FlowRun, request: JobRequest | None) -> JobBudget | None:
    """What a job with a limit spent, and what it may still spend; None: it has none."""
    account = run.labels.account
    if account is None or request is None:
        return None
    own = own_limits(request)
    is_reserved = account.last is not None and account.last.limit_seconds is not None
    if not (own.are_set or is_reserved):
        return None
    is_over = run.state.job_state.is_terminal and run.end_time is not None
    ended_at = Instant("", 0.0, run.end_time.timestamp()) if is_over and run.end_time else None
    spent, reserved = account.used(Instant.now(), ended_at=ended_at)
    has_price = account.price is not None
    left = own.left(spent)
    if not own.are_set:
        left = Limits(cost=reserved.dollars, gpu_hours=reserved.gpu_hours)
    return JobBudget(
        cost=spent.dollars if has_price else None,
        gpu_hours=spent.gpu_hours,
        left_cost=left.cost if has_price else None,
        left_gpu_hours=left.gpu_hours,
    )


def job_name(run: FlowRun, request: JobRequest | None) -> str:
    """Return the job's name: the one that a person gave, else its run's.

    Prefect makes up a name for a planned run of a schedule; a worker names it when it starts.
    """
    given, start = request.job_name if request else "", run.labels.run_name
    is_named = not run.auto_scheduled or run.run_count > 0
    if given or start is None or is_named:
        return given or run.name
    return f"{start}-{names.firing(run.id, run.expected_start_time)}"


def run_url(ui_url: str | None, run_id: str) -> str | None:
    """Return the run's page in the Prefect UI."""
    return f"{ui_url.rstrip('/')}/runs/flow-run/{run_id}" if ui_url else None


def summary_line(status: JobStatus) -> str:
    """Summarise the status in one line."""
    parts = [f"{status.name} is {status.state}"]
    if status.attempt > 1:
        parts.append(f"attempt {status.attempt}")
    if status.resumed_from_step is not None:
        parts.append(f"resumed from step {status.resumed_from_step}")
    parts += progress_words(status.progress)
    if status.budget is not None:
        parts.append(status.budget.words)
    tells = DIVERGED in status.message or status.message.startswith(_BY_HAND)
    if tells and status.state is JobState.SUCCEEDED:
        parts.append(status.message)
    elif status.state is not JobState.SUCCEEDED and status.message:
        reason = f"{status.termination_reason}: " if status.termination_reason else ""
        parts.append(reason + status.message)
    elif status.termination_reason and status.state is not JobState.SUCCEEDED:
        parts.append(status.termination_reason)
    if not status.reachable:
        parts.append(f"not reachable, last seen {status.observed_at:%Y-%m-%d %H:%M:%S} UTC")
    return " ".join("; ".join(parts).split())


def progress_words(progress: JobProgress) -> list[str]:
    """Describe the progress in words, one part each."""
    parts: list[str] = []
    if progress.step is not None:
        parts.append(f"step {step_words(progress.step, progress.max_steps)}")
    if progress.loss is not None:
        parts.append(f"loss {progress.loss:.4g}")
    if progress.eta_seconds is not None:
        parts.append(f"about {_left(progress.eta_seconds)} left")
    return parts


def step_words(step: int | None, max_steps: int | None) -> str:
    """How far a training is, such as ``10 of 60``; empty if it is not known."""
    of = f" of {max_steps}" if max_steps else ""
    return "" if step is None else f"{step}{of}"


def _left(seconds: float) -> str:
    in_seconds = f"{seconds:.0f} s"
    return in_seconds if seconds < _LONG else str(timedelta(seconds=round(seconds)))


def progress_of(run: FlowRun, artifact: Artifact | None) -> JobProgress:
    """The progress of the current attempt, from a progress artifact of its job."""
    current = artifact is not None and _is_of_attempt(artifact, run)
    return _progress(artifact if current else None, run.state.job_state)


def _is_of_attempt(artifact: Artifact, run: FlowRun) -> bool:
    """Whether an artifact belongs to the attempt of the status."""
    if run.state.job_state in _BEFORE_A_LAUNCH:
        return False
    return artifact.metadata.get("attempt", str(run.attempt)) == str(run.attempt)


def _progress(artifact: Artifact | None, state: JobState) -> JobProgress:
    if artifact is None:
        return JobProgress()
    facts = artifact.metadata
    percent = _finite(artifact.data)
    return JobProgress(
        step=to_count(facts.get("step")),
        max_steps=to_count(facts.get("max_steps")),
        percent=None if percent is None else round(percent, 2),
        loss=to_number(facts.get("loss")),
        eta_seconds=None if state.is_terminal else _finite(facts.get("eta_seconds")),
    )


def _finite(text: object) -> float | None:
    value = to_number(text)
    return value if value is not None and math.isfinite(value) else None


def _instant(text: str | None) -> datetime | None:
    try:
        value = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _duration(run: FlowRun, now: datetime) -> float | None:
    if run.start_time is None:
        return None
    end = run.end_time if run.state.job_state.is_terminal and run.end_time else None
    watch = run.labels.stopwatch
    if watch is None:
        return max(0.0, round(((end or now) - run.start_time).total_seconds(), 3))
    if watch.since is not None and end is not None:  # the measurement missed its end
        return round(watch.seconds(Instant("", 0.0, end.timestamp())), 3)
    return round(watch.seconds(Instant.now()), 3)
