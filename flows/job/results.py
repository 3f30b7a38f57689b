"""Keeps the metrics of a job that succeeded on its run, and a link to its results."""

import logging
import math
from contextlib import suppress
from pathlib import Path

import httpx
from prefect.exceptions import ObjectNotFound

from flows.core import names
from flows.core.divergence import divergence, last_loss
from flows.core.result_marks import ResultMarks, marks_of
from flows.core.result_metrics import ResultFiles, kept_metrics, read_metrics
from flows.core.run_labels import RunLabels
from flows.job.outcome import Outcome
from flows.job.reading import Reading
from flows.job.run_record import RunRecord


async def keep_results(
    record: RunRecord,
    logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]",
    *,
    own_output: bool,
    loss: float | None,
) -> float | None:
    """Keep the metrics of a job on its run, because another may write over its files.

    Args:
        record: The run of the job, which has succeeded.
        logger: The run's log.
        own_output: Whether each run has a folder of its own; ``latest`` then links to this one.
        loss: The last loss it reported while it ran.

    Returns:
        The last loss of its training; None: it did not train.
    """
    reading = Reading()
    folder = record.labels.output_dir
    if own_output and folder:
        await reading.read("a folder of results", link_latest, Path(folder))
    files = result_files(record.labels)
    found = await reading.read("the results of a job", read_metrics, files) or {}
    if loss is not None and not math.isfinite(loss):
        # A training that writes no file of metrics shows it only in its reports.
        found["loss"] = loss
    if found:
        try:
            await record.label(RunLabels(metrics=kept_metrics(found)))
        except (httpx.HTTPError, ObjectNotFound) as error:
            logger.warning("The metrics of the job were not kept: %s", error)
    return last_loss(found)


def with_divergence(outcome: Outcome, *, loss: float | None) -> Outcome:
    """The outcome of a job that succeeded, with a warning if its training diverged.

    Its process exited with 0, so the job has not failed.
    """
    words = divergence(loss)
    return outcome._replace(text=f"{outcome.text.rstrip('. ')}, but {words}.") if words else outcome


def result_files(labels: RunLabels, *, folder: str = "") -> ResultFiles:
    """The files with the results of a job.

    Args:
        labels: The labels of its run.
        folder: Its folder of results; empty: the one that its labels name.
    """
    folder = folder or labels.output_dir or ""
    # Without marks it is unknown which files of the folder are the job's.
    before = marks_of(labels.result_marks, folder)
    return ResultFiles(
        output_dir=Path(folder) if folder and before else None,
        log_path=Path(labels.log_path) if labels.log_path else None,
        before=before or ResultMarks(),
    )


def mark_results(labels: RunLabels, attempt: int, *, is_script: bool) -> RunLabels:
    """Mark the contents of the folder of results before an attempt is launched. Blocking.

    Args:
        labels: The labels of its run, with those of the launch.
        attempt: The number of the attempt.
        is_script: Whether a script runs, which decides itself where to resume.
    """
    folder = labels.output_dir or ""
    marks = marks_of(labels.result_marks, folder) or ResultMarks(folder=folder)
    if not folder or marks.has(attempt):
        return RunLabels()  # the worker that began the launch wrote them: the job may write by now
    goes_on = labels.fresh_attempt != attempt
    if not is_script:
        goes_on &= labels.resumed_attempt == attempt
    return _with_marks(marks.next(attempt, goes_on=goes_on))


def mark_end(labels: RunLabels, attempt: int) -> RunLabels:
    """Mark the end of an attempt: later lines of the file are not its own. Blocking."""
    marks = marks_of(labels.result_marks, labels.output_dir or "")
    return _with_marks(marks.with_end(attempt)) if marks else RunLabels()


def link_latest(folder: Path) -> None:
    """Link ``latest`` beside a folder to it, unless it names a later one or is not our link."""
    link = folder.with_name(names.LATEST)
    draft = folder.with_name(f".{names.LATEST}-{folder.name}")
    with suppress(OSError):  # a file system without links; the folder itself is there
        if link.is_symlink():
            if str(link.readlink()) >= folder.name:
                return
        elif link.exists():
            return
        if folder.is_dir():
            draft.unlink(missing_ok=True)
            draft.symlink_to(folder.name, target_is_directory=True)
            draft.replace(link)


def _with_marks(marks: ResultMarks) -> RunLabels:
    return RunLabels(result_marks=marks.model_dump_json(exclude_defaults=True))
