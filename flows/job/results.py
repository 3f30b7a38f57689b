"""What a job that succeeded leaves on its run and beside its results, for those who look later."""

import logging
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx
from prefect.exceptions import ObjectNotFound

from flows.core import names
from flows.core.divergence import divergence, last_loss
from flows.core.metrics import ResultFiles, kept_metrics, read_metrics
from flows.core.result_marks import ResultMarks, marks_of
from flows.job.outcome import Outcome
from flows.job.reading import Reading
from flows.job.run_record import LabelValue, RunRecord


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
        own_output: Whether its folder is one of many, of which ``latest`` is to be this one.
        loss: The last loss it reported while it ran.

    Returns:
        The last loss of its training; None: it was no training.
    """
    reading = Reading()
    folder = record.labels.get(names.LABEL_OUTPUT_DIR)
    if own_output and folder:
        await reading.read("a folder of results", link_latest, Path(str(folder)))
    files = result_files(record.labels)
    found = await reading.read("the results of a job", read_metrics, files) or {}
    if loss is not None and not math.isfinite(loss):
        # Of a training that writes no file of metrics only its reports say so.
        found["loss"] = loss
    if found:
        kept: dict[str, LabelValue] = {names.LABEL_METRICS: kept_metrics(found)}
        try:
            await record.label(kept)
        except (httpx.HTTPError, ObjectNotFound) as error:
            logger.warning("The metrics of the job were not kept: %s", error)
    return last_loss(found)


def with_divergence(outcome: Outcome, *, loss: float | None) -> Outcome:
    """The outcome of a job that succeeded, which says so if its training diverged.

    Its process ended well, so it is no failure.
    """
    words = divergence(loss)
    return outcome._replace(text=f"{outcome.text.rstrip('. ')}, but {words}.") if words else outcome


def result_files(labels: Mapping[str, object], *, folder: str = "") -> ResultFiles:
    """Where the results of a job are.

    Args:
        labels: Those of its run.
        folder: Its folder of results; empty: the one that its labels name.
    """
    folder = folder or str(labels.get(names.LABEL_OUTPUT_DIR) or "")
    log_path = labels.get(names.LABEL_LOG_PATH)
    # Without marks there is no telling what in the folder is the job's.
    before = marks_of(labels.get(names.LABEL_RESULT_MARKS), folder)
    return ResultFiles(
        output_dir=Path(folder) if folder and before else None,
        log_path=Path(str(log_path)) if log_path else None,
        before=before or ResultMarks(),
    )


def link_latest(folder: Path) -> None:
    """Have ``latest`` beside a folder mean it, unless it means a later one or is none of ours."""
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
