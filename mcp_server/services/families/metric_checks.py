"""Checks that jobs leave the metrics that a sweep or a pipeline asks of them."""

from collections.abc import Iterable, Mapping

from flows.core.checks.launch import read_launch_of
from flows.core.checks.metrics import metric_findings
from flows.core.findings import Finding, FindingCode, Severity
from flows.core.models import Command
from flows.core.pipelines.references import Reference
from flows.core.sweeps.spec import Direction, Sweep
from flows.core.training.directions import Direction as Better
from flows.core.training.directions import direction_of
from mcp_server.services.jobs.submitting import CheckedJob


def check_metric(metric: str, job: CheckedJob) -> list[Finding]:
    """Find out why a job would not leave a metric; empty if it does, or may."""
    if job.request.skip_preflight:
        return []
    return metric_findings(metric, read_launch_of(job.request, job.config))


def check_goal(sweep: Sweep, first: CheckedJob) -> list[Finding]:
    """Check the metric of a sweep, its direction and its early stopping.

    Args:
        sweep: The sweep.
        first: The job with the values that are tried first.
    """
    found = check_metric(sweep.metric, first)
    if any(key.startswith(("training.", "data.")) and _decides(key) for key in sweep.space):
        found = [one.model_copy(update={"severity": Severity.WARNING}) for one in found]
    better = direction_of(sweep.metric)
    is_lower = sweep.direction is Direction.MINIMIZE
    if better is not None and is_lower != (better is Better.LOWER):
        other = Direction.MAXIMIZE if is_lower else Direction.MINIMIZE
        found.append(
            _warning(
                f"by its name {sweep.metric} is better the {better} it is, and the sweep would "
                f"{sweep.direction} it",
                f"Set direction: {other}",
            )
        )
    if sweep.early_stopping and first.command == Command.EVALUATE:
        found.append(
            _warning(
                "early_stopping stops no trial: oumi evaluate writes its metrics at its end",
                "Leave it out",
            )
        )
    return found


def check_references(
    references: Iterable[Reference],
    meant: Mapping[str, str | list[str]],
    jobs: Mapping[str, CheckedJob],
) -> list[Finding]:
    """Check the metrics that a part of a pipeline asks of the parts before it.

    Args:
        references: Those of the part.
        meant: The parts that each reference to a step means.
        jobs: The jobs of the parts, by name.
    """
    found: dict[str, Finding] = {}
    for one in references:
        if one.metric is None:
            continue
        parts = meant.get(one.head, [])
        for name in [parts] if isinstance(parts, str) else parts[:1]:
            for finding in check_metric(one.metric, jobs[name]) if name in jobs else []:
                text = f"{one}: {finding.message}"
                found[text] = finding.model_copy(update={"message": text})
    return list(found.values())


def _decides(key: str) -> bool:
    """Whether a key decides which metrics a training leaves."""
    return key.startswith("data.") or key.rpartition(".")[2] in (
        "trainer_type",
        "eval_strategy",
        "metrics_function",
    )


def _warning(message: str, fix: str) -> Finding:
    return Finding(
        code=FindingCode.UNKNOWN_METRIC, severity=Severity.WARNING, message=message, fix=fix
    )
