"""Looks at the training of a running job: its health, what it uses, and a page for people."""

import base64
import time
from pathlib import Path
from typing import Final, NamedTuple

from flows.core.diagnosis.findings import Diagnosis
from flows.core.diagnosis.reading import diagnose_job
from flows.core.diagnosis.request import DiagnosisRequest
from flows.core.models import Usage
from flows.core.numbers import to_json
from flows.core.redaction import Redactor
from flows.core.states import Health, TerminationReason
from flows.core.training.recorder import record_folder
from flows.core.training.summary import describe_metrics
from flows.core.training.usage import read_usage
from flows.core.training.values import JobMetrics, MetricsRequest, Point

_SHARE: Final = 0.05
"""Share of one processor that the looks of a worker may take, over all its jobs."""
_POINTS: Final = 300


class Insight(NamedTuple):
    """What one look found.

    Attributes:
        diagnosis: How the training does.
        usage: What the job uses of its machine; None: that is not known.
    """

    diagnosis: Diagnosis
    usage: Usage | None

    def as_metadata(self, *, limit: int) -> dict[str, str]:
        """Write it as metadata of an artifact, each value with at most `limit` characters."""
        found = {"health": self.diagnosis.health.value}
        if self.usage is not None:
            gpus = self.usage.gpus
            text = self.usage.model_dump_json(exclude_none=True)
            while len(text) > limit and gpus:
                gpus = gpus[:-1]
                text = self.usage.model_copy(update={"gpus": gpus}).model_dump_json(
                    exclude_none=True
                )
            found["usage"] = text
        return found


class LookRate:
    """Limits how often a worker looks at the trainings of its jobs.

    Args:
        seconds: Least time between two looks at one job.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds = seconds
        self._free_at = 0.0

    def take_turn(self) -> bool:
        """Whether a look may begin now."""
        return time.monotonic() >= self._free_at

    def note_cost(self, seconds: float) -> None:
        """Let the next look wait for the time that this one took."""
        self._free_at = time.monotonic() + seconds / _SHARE * (1 - _SHARE)


def look_at_training(
    log_path: Path,
    *,
    hide: Redactor,
    reason: TerminationReason | None = None,
    output_dir: str = "",
) -> Insight:
    """Read the record beside a log, and diagnose it. Blocking.

    Args:
        log_path: The log of the last attempt.
        hide: Hides secrets.
        reason: Why the job ended; None: it runs.
        output_dir: Where it writes its results.
    """
    request = DiagnosisRequest(
        log_paths=[str(log_path)],
        is_running=reason is None,
        now=time.time(),
        reason=reason,
        output_dir=output_dir,
    )
    return Insight(diagnose_job(request, hide), read_usage(record_folder(log_path)))


def draw_page(log_path: Path, diagnosis: Diagnosis) -> str:
    """Draw the page of the job that writes a log. Blocking."""
    request = MetricsRequest(job_id="", log_paths=[str(log_path)], points=_POINTS)
    return write_page(describe_metrics(request), diagnosis)


def write_page(metrics: JobMetrics, diagnosis: Diagnosis) -> str:
    """Write Markdown with health, chart and last values; empty if there is no metric.

    The Prefect UI (3.9) renders images from data URLs in it.
    """
    if not metrics.keys:
        return ""
    # matplotlib takes half a second to load, which a worker's start must not.
    from flows.core.training.chart import draw_metrics

    chart = base64.b64encode(draw_metrics([metrics])).decode()
    rows = [
        f"| {one.key} | {_text(one.last.value)} | {one.last.step} | {_best(one.best)} |"
        for one in metrics.keys
    ]
    return "\n".join(
        [
            _health_line(diagnosis),
            "",
            f"![metrics](data:image/png;base64,{chart})",
            "",
            "| metric | last | step | best |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    )


def _health_line(diagnosis: Diagnosis) -> str:
    if diagnosis.health is Health.OK:
        return "Health: **ok**"
    return f"Health: **{diagnosis.health}**. {diagnosis.summary}"


def _best(best: Point | None) -> str:
    return "" if best is None else f"{_text(best.value)} at step {best.step}"


def _text(value: float) -> str:
    shown = to_json(value)
    return shown if isinstance(shown, str) else f"{shown:.6g}"
